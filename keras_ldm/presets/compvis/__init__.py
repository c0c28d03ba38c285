"""The models of the paper, with fresh weights: to train anew, or to see how each is put together.

`keras_ldm.weights.compvis.load` opens their published checkpoints.
"""

from keras_ldm.presets.compvis.diffusion import bsr_sr as bsr_sr
from keras_ldm.presets.compvis.diffusion import celebahq256 as celebahq256
from keras_ldm.presets.compvis.diffusion import cin256 as cin256
from keras_ldm.presets.compvis.diffusion import cin256_v2 as cin256_v2
from keras_ldm.presets.compvis.diffusion import ffhq256 as ffhq256
from keras_ldm.presets.compvis.diffusion import inpainting_big as inpainting_big
from keras_ldm.presets.compvis.diffusion import layout2img_openimages256 as layout2img_openimages256
from keras_ldm.presets.compvis.diffusion import lsun_beds256 as lsun_beds256
from keras_ldm.presets.compvis.diffusion import lsun_churches256 as lsun_churches256
from keras_ldm.presets.compvis.diffusion import rdm768 as rdm768
from keras_ldm.presets.compvis.diffusion import semantic_synthesis256 as semantic_synthesis256
from keras_ldm.presets.compvis.diffusion import semantic_synthesis512 as semantic_synthesis512
from keras_ldm.presets.compvis.diffusion import text2img256 as text2img256
from keras_ldm.presets.compvis.diffusion import txt2img_1p4b as txt2img_1p4b
from keras_ldm.presets.compvis.first_stages import kl_f4 as kl_f4
from keras_ldm.presets.compvis.first_stages import kl_f8 as kl_f8
from keras_ldm.presets.compvis.first_stages import kl_f16 as kl_f16
from keras_ldm.presets.compvis.first_stages import kl_f32 as kl_f32
from keras_ldm.presets.compvis.first_stages import vq_f4 as vq_f4
from keras_ldm.presets.compvis.first_stages import vq_f4_noattn as vq_f4_noattn
from keras_ldm.presets.compvis.first_stages import vq_f8 as vq_f8
from keras_ldm.presets.compvis.first_stages import vq_f8_n256 as vq_f8_n256
from keras_ldm.presets.compvis.first_stages import vq_f16 as vq_f16
