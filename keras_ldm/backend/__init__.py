"""The few lines that need to know the backend itself."""

from keras_ldm.backend.attention import dot_product_attention as dot_product_attention
from keras_ldm.backend.batch_parallelism import enable_batch_parallelism as enable_batch_parallelism
from keras_ldm.backend.batch_parallelism import in_batch_parts as in_batch_parts
from keras_ldm.backend.compilation import compile_function as compile_function
from keras_ldm.backend.compilation import resolve_jit_compile as resolve_jit_compile
from keras_ldm.backend.compilation import values_of as values_of
from keras_ldm.backend.gradients import follow_gradient as follow_gradient
from keras_ldm.backend.gradients import gradient as gradient
from keras_ldm.backend.gradients import with_gradient as with_gradient
from keras_ldm.backend.input_pipeline import input_pipeline as input_pipeline
from keras_ldm.backend.kernels import gated_gelu as gated_gelu
from keras_ldm.backend.kernels import in_one_pass as in_one_pass
from keras_ldm.backend.kernels import with_own_gradient as with_own_gradient
from keras_ldm.backend.layers import freeze as freeze
from keras_ldm.backend.precision import exact_matmul as exact_matmul
from keras_ldm.backend.precision import has_float64 as has_float64
from keras_ldm.backend.rematerialization import rematerialized as rematerialized
from keras_ldm.backend.steps import inside_step as inside_step
from keras_ldm.backend.steps import is_inside_step as is_inside_step
from keras_ldm.backend.steps import is_replicated as is_replicated
from keras_ldm.backend.steps import outside_graph as outside_graph
from keras_ldm.backend.steps import without_gradient as without_gradient
from keras_ldm.backend.training import compile_part as compile_part
from keras_ldm.backend.training import keep_freed_memory as keep_freed_memory
from keras_ldm.backend.training import prepare_updates as prepare_updates
