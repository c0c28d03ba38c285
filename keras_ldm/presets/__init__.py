"""Functions that return built models.

`from_preset` knows `emoji`, `small_autoencoder` and `small_text_to_image` by name. Those of `compvis`,
with fresh weights, are functions only.
"""

from keras_ldm.presets import compvis as compvis
from keras_ldm.presets.text_to_image import emoji as emoji
from keras_ldm.presets.text_to_image import small_autoencoder as small_autoencoder
from keras_ldm.presets.text_to_image import small_text_to_image as small_text_to_image
