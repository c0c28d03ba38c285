"""The maths of diffusion: pure functions and small objects, without weights."""

from keras_ldm.diffusion.denoiser import Denoiser as Denoiser
from keras_ldm.diffusion.flow_schedule import FlowSchedule as FlowSchedule
from keras_ldm.diffusion.guidance import classifier_free_guidance as classifier_free_guidance
from keras_ldm.diffusion.guidance import classifier_guidance as classifier_guidance
from keras_ldm.diffusion.masking import mask_blending as mask_blending
from keras_ldm.diffusion.noise_levels import get_timestep_function as get_timestep_function
from keras_ldm.diffusion.noise_levels import stratified_timesteps as stratified_timesteps
from keras_ldm.diffusion.noise_levels import uniform_timesteps as uniform_timesteps
from keras_ldm.diffusion.parameterization import Parameterization as Parameterization
from keras_ldm.diffusion.parameterization import get_parameterization as get_parameterization
from keras_ldm.diffusion.schedules import NoiseSchedule as NoiseSchedule
from keras_ldm.diffusion.schedules import Schedule as Schedule
from keras_ldm.diffusion.schedules import cosine_schedule as cosine_schedule
from keras_ldm.diffusion.schedules import linear_schedule as linear_schedule
from keras_ldm.diffusion.schedules import scaled_linear_schedule as scaled_linear_schedule
from keras_ldm.diffusion.schedules import zero_terminal_snr as zero_terminal_snr
from keras_ldm.diffusion.thresholding import dynamic_thresholding as dynamic_thresholding
from keras_ldm.diffusion.thresholding import static_thresholding as static_thresholding
from keras_ldm.diffusion.variational_bound import prior_bits as prior_bits
from keras_ldm.diffusion.variational_bound import step_bits as step_bits
from keras_ldm.diffusion.weighting import MinSNRWeighting as MinSNRWeighting
from keras_ldm.diffusion.weighting import SimpleWeighting as SimpleWeighting
from keras_ldm.diffusion.weighting import get_weighting as get_weighting
