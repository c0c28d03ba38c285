"""Tensors by name, in files: safetensors, checkpoints of `torch.save`, graphs of TensorFlow.

Neither reading nor writing needs PyTorch or TensorFlow, and nothing that a file names is ever imported
or run.
Whatever is wrong with a file is a `ValueError` that names the file and the reason.
"""

from keras_ldm.files.atomic import atomic_path as atomic_path
from keras_ldm.files.atomic import atomic_write as atomic_write
from keras_ldm.files.checkpoint_writing import write_ckpt as write_ckpt
from keras_ldm.files.graph_def import read_graph_def as read_graph_def
from keras_ldm.files.numpy_pickles import read_numpy_pickle as read_numpy_pickle
from keras_ldm.files.reading import read_tensors as read_tensors
from keras_ldm.files.safetensors_writing import write_safetensors as write_safetensors
from keras_ldm.files.tensor_file import TensorFile as TensorFile
