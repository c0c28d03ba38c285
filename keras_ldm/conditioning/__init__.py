"""From a batch's raw conditions to what a denoising network takes."""

from keras_ldm.conditioning.class_label import ClassEmbedder as ClassEmbedder
from keras_ldm.conditioning.conditioner import Conditioner as Conditioner
from keras_ldm.conditioning.embedder import Embedder as Embedder
from keras_ldm.conditioning.maps import ImageEmbedder as ImageEmbedder
from keras_ldm.conditioning.maps import LatentEmbedder as LatentEmbedder
from keras_ldm.conditioning.maps import MaskEmbedder as MaskEmbedder
from keras_ldm.conditioning.maps import SegmentationEmbedder as SegmentationEmbedder
from keras_ldm.conditioning.text import TextEmbedder as TextEmbedder
from keras_ldm.conditioning.tokenizers import BertUncasedTokenizer as BertUncasedTokenizer
from keras_ldm.conditioning.tokenizers import bert_uncased_tokenizer as bert_uncased_tokenizer
from keras_ldm.conditioning.tokenizers import pack_tokens as pack_tokens
from keras_ldm.conditioning.tokens import TokenEmbedder as TokenEmbedder
