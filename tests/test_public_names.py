"""The public names, frozen: a change here is a change for everybody's code."""

import importlib
import types

import pytest

import keras_ldm

NAMES = {
    "layers": """
        AttentionPool
        ConditionalSequential
        ConvUnit
        CrossAttention
        DiagonalGaussian
        Downsample
        GEGLU
        GroupNorm
        LinearSpatialAttention
        PointDistribution
        Quantized
        ResidualBlock
        SharedStatistics
        SinusoidalEmbedding
        SpatialSelfAttention
        SpatialTransformer
        TransformerBlock
        Upsample
        VectorQuantizer
        attend
        average_pixels
        repeat_pixels
        resize_images
    """,
    "models": """
        Autoencoder
        AutoencoderHalf
        AutoencoderKL
        CLIP
        CLIPImageNetwork
        CLIPTextNetwork
        Decoder
        EfficientNetLite0
        Encoder
        FirstStage
        IdentityFirstStage
        InceptionV3
        LPIPSNetwork
        PatchDiscriminator
        Tiling
        TransformerTextEncoder
        UNet
        UNetClassifier
        UNetEncoder
        VQModel
        clip_tokenizer
        layout_map
        pretrained_clip
        pretrained_efficientnet
        pretrained_inception
        pretrained_lpips
    """,
    "losses": """
        AdversarialLoss
        LPIPS
        get_adversarial_loss
    """,
    "diffusion": """
        Denoiser
        FlowSchedule
        MinSNRWeighting
        NoiseSchedule
        Parameterization
        Schedule
        SimpleWeighting
        classifier_free_guidance
        classifier_guidance
        cosine_schedule
        dynamic_thresholding
        get_parameterization
        get_timestep_function
        get_weighting
        linear_schedule
        mask_blending
        prior_bits
        scaled_linear_schedule
        static_thresholding
        step_bits
        stratified_timesteps
        uniform_timesteps
        zero_terminal_snr
    """,
    "samplers": """
        ImageNoise
        NamedSampler
        Stage
        ddim
        ddim_inversion
        ddpm
        dpm2
        dpm2_ancestral
        dpmpp_2m
        dpmpp_2m_sde
        dpmpp_2s
        dpmpp_3m_sde
        euler
        euler_ancestral
        exponential_sigmas
        get_grid
        get_sampler
        heun
        image_seeds
        interpolate_sigmas
        karras_sigmas
        lcm
        lcm_sigmas
        leading_sigmas
        linspace_sigmas
        lms
        noise_function
        plms
        sampler_names
        slerp
        solve
        steps_between
        symbols
        trailing_sigmas
        uniform_sigmas
        unipc
    """,
    "conditioning": """
        BertUncasedTokenizer
        ClassEmbedder
        Conditioner
        Embedder
        ImageEmbedder
        LatentEmbedder
        MaskEmbedder
        SegmentationEmbedder
        TextEmbedder
        TokenEmbedder
        bert_uncased_tokenizer
        pack_tokens
    """,
    "metrics": """
        BitsPerDimension
        CLIPScore
        CodePerplexity
        CodeUsage
        DensityCoverage
        Evaluation
        FeatureExtractor
        FeatureMetric
        FeatureStatistics
        FrechetInceptionDistance
        ImageFeatures
        InceptionScore
        KernelInceptionDistance
        LPIPS
        MultiScaleStructuralSimilarity
        PeakSignalToNoiseRatio
        PrecisionRecall
        StructuralSimilarity
        density_coverage
        describe_features
        evaluate_images
        extract_features
        frechet_distance
        inception_score
        kernel_distance
        precision_recall
        retrieval_at_k
    """,
    "callbacks": """
        Checkpoints
        CodebookHistogram
        PictureCallback
        ReconstructionGrid
        SampleEvaluation
        TerminateOnNaN
        Throughput
    """,
    "data": """
        Crop
        DamagedRecordsError
        EmojiData
        ImageShards
        LatentCache
        array_dataset
        aspect_ratio_buckets
        augment_caption
        cache_latents
        captioned_dataset
        find_images
        flip_images
        image_folder
        load_emoji
        load_image
        load_image_folder
        read_caption_file
        read_captions
        shift_images
    """,
    "presets": """
        emoji
        small_autoencoder
        small_text_to_image
    """,
    "presets.compvis": """
        bsr_sr
        celebahq256
        cin256
        cin256_v2
        ffhq256
        inpainting_big
        kl_f16
        kl_f32
        kl_f4
        kl_f8
        layout2img_openimages256
        lsun_beds256
        lsun_churches256
        rdm768
        semantic_synthesis256
        semantic_synthesis512
        text2img256
        txt2img_1p4b
        vq_f16
        vq_f4
        vq_f4_noattn
        vq_f8
        vq_f8_n256
    """,
    "files": """
        TensorFile
        atomic_path
        atomic_write
        read_graph_def
        read_numpy_pickle
        read_tensors
        write_ckpt
        write_safetensors
    """,
    "weights.compvis": """
        load
        save
    """,
    "weights.native": """
        load
        save
    """,
    "tasks": """
        AutoencoderTask
        BlendedConditions
        ExponentialMovingAverage
        GenerativeTask
        LatentDiffusion
        LatentSpace
        LinearWarmUp
        NoisyLatentClassifier
        RateDistortion
        Task
        TextToImage
        load
        register_preset
    """,
}


def public(module: types.ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


@pytest.mark.parametrize("name", NAMES)
def test_public_names(name: str) -> None:
    module = importlib.import_module(f"keras_ldm.{name}")
    assert public(module) == set(NAMES[name].split())


def test_the_package_gives_its_subpackages() -> None:
    assert public(keras_ldm) == {"enable_batch_parallelism"}
    assert all(hasattr(keras_ldm, name) for name in NAMES if "." not in name)


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_documented(name: str) -> None:
    module = importlib.import_module(f"keras_ldm.{name}")
    values = {n: getattr(module, n) for n in NAMES[name].split()}
    documented = (type, types.FunctionType)
    assert not [n for n, v in values.items() if isinstance(v, documented) and not v.__doc__]
