"""Captioned pictures: a set that ships with the package, folders of one's own, arrays; their latents.

What ends in `_dataset`, and `image_folder`, gives a `tf.data` pipeline of `{"image": uint8 (batch,
height, width, 3), "caption": string (batch,)}` and needs TensorFlow; everything else is NumPy.
"""

from keras_ldm.data.arrays import array_dataset as array_dataset
from keras_ldm.data.buckets import aspect_ratio_buckets as aspect_ratio_buckets
from keras_ldm.data.caching import cache_latents as cache_latents
from keras_ldm.data.caption_files import read_caption_file as read_caption_file
from keras_ldm.data.captions import augment_caption as augment_caption
from keras_ldm.data.captions import read_captions as read_captions
from keras_ldm.data.emoji import EmojiData as EmojiData
from keras_ldm.data.emoji import load_emoji as load_emoji
from keras_ldm.data.image_augmentation import flip_images as flip_images
from keras_ldm.data.image_augmentation import shift_images as shift_images
from keras_ldm.data.image_files import find_images as find_images
from keras_ldm.data.image_folder import image_folder as image_folder
from keras_ldm.data.image_folder import load_image_folder as load_image_folder
from keras_ldm.data.image_shards import DamagedRecordsError as DamagedRecordsError
from keras_ldm.data.image_shards import ImageShards as ImageShards
from keras_ldm.data.images import Crop as Crop
from keras_ldm.data.images import load_image as load_image
from keras_ldm.data.latent_cache import LatentCache as LatentCache
from keras_ldm.data.pipeline import captioned_dataset as captioned_dataset
