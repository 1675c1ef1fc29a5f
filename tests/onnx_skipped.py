"""The node tests of ONNX that `test_onnx_backend` skips, by reason; onnx 1.23."""

SKIPPED: dict[str, str] = {
    "fully masked or NaN on purpose: a tensor is not finite, so that it has no scale": """
        test_attention_23*_expanded* test_attention_24*_expanded* test_mod_float_*
    """,
    "the scores of the Attention node are inside it: calibration cannot see them": """
        test_attention_4d test_attention_4d_fp16 test_attention_4d_diff_heads_sizes
        test_attention_4d_scaled test_attention_4d_diff_heads_sizes_scaled
        test_attention_4d_causal* test_attention_4d_diff_heads_sizes_causal
        test_attention_4d_attn_mask test_attention_4d_attn_mask_3d
        test_attention_4d_attn_mask_3d_causal test_attention_4d_attn_mask_4d
        test_attention_4d_attn_mask_4d_causal test_attention_4d_attn_mask_bool
        test_attention_4d_attn_mask_bool_4d test_attention_4d_diff_heads_sizes_attn_mask
        test_attention_4d_with_past_and_present
        test_attention_4d_diff_heads_with_past_and_present
        test_attention_4d_diff_heads_with_past_and_present_mask3d
        test_attention_4d_diff_heads_with_past_and_present_mask4d test_attention_4d_softcap
        test_attention_4d_diff_heads_sizes_softcap test_attention_3d_transpose_verification
        test_attention_4d_softcap_neginf_mask test_attention_4d_softcap_neginf_mask_poison
        test_attention_causal_boolmask_nan_robustness
        test_attention_23_boolmask_fullymasked_row_nan_robustness test_attention_local_window
        test_attention_bidirectional_window test_attention_local_window_default
        test_attention_local_window_rank1_boolean_mask test_attention_local_window_with_past
        test_attention_local_window_ext*
    """,
    "the scores are an output: they stay on chip": """
        test_attention_4d_with_qk_matmul test_attention_4d_with_qk_matmul_bias
        test_attention_4d_with_qk_matmul_softcap test_attention_4d_with_qk_matmul_softmax
        test_attention_4d_with_past_and_present_qk_matmul_bias
        test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask
        test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask
        test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal
        test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal
        test_attention_4d_with_past_and_present_qk_matmul
        test_attention_3d_with_past_and_present_qk_matmul
        test_attention_3d_with_past_and_present_qk_matmul_bias
        test_attention_3d_with_past_and_present_qk_matmul_softcap
        test_attention_3d_with_past_and_present_qk_matmul_softmax
        test_attention_23_fullymasked_qk_matmul_output_mode3_zero
        test_attention_24_fullymasked_qk_matmul_output_mode3_zero
        test_attention_24_qk_matmul_output_mode3_softmax_precision
        test_attention_local_window_gqa_rank4_mask
    """,
    "a sum that repeats an operand, inside a node: calibration cannot see it": """
        test_gemm_default_matrix_bias test_sum_example
    """,
    "a softmax along an axis other than the last, or over other than rows of one matrix": """
        test_softmax*_expanded* test_softmax_axis_0* test_softmax_axis_1*
    """,
    "a mask that differs between queries: only causal masks and masks over keys run on the machine": """
        test_attention_4d_attn_mask_expanded test_attention_4d_attn_mask_3d_expanded
        test_attention_4d_attn_mask_4d_expanded
        test_attention_4d_diff_heads_sizes_attn_mask_expanded
        test_attention_4d_with_past*_expanded* test_attention_4d_diff_heads_with*_expanded*
        test_attention_4d_with_qk_matmul_bias_expanded
        test_attention_4d_with_qk_matmul_softcap_expanded
        test_attention_4d_with_qk_matmul_softmax_expanded
    """,
    "query heads that share keys, keys repeated or transposed by themselves": """
        test_attention_4d_gqa* test_attention_3d test_attention_3d_expanded
        test_attention_3d_gqa* test_attention_3d_diff* test_attention_3d_scaled*
        test_attention_3d_causal test_attention_3d_attn* test_attention_3d_softcap*
        test_attention_3d_with_past_and_present test_attention_3d_with*_expanded*
        test_attention_3d_local_window test_flexattention_gqa_expanded_ver26
        test_flexattention_soft_cap_expanded_ver26 test_matmul_bcast test_matmul_1d*
        test_matmul_4d_1d
    """,
    "heads, or parts of a matrix, stored otherwise than a kernel reads them": """
        test_attention_4d_expanded test_attention_4d_fp16_expanded
        test_attention_4d_diff_heads_sizes_expanded test_attention_4d_scaled_expanded
        test_attention_4d_diff_heads_sizes_scaled_expanded
        test_attention_4d_attn_mask_bool*_expanded* test_attention_4d_with_qk_matmul_expanded
        test_attention_3d_transpose_verification_expanded
        test_attention_local_window_default_expanded
    """,
    "weights that differ from row to row, or a transposed activation": """
        test_causal* test_gemm_transposeA test_gemm_all_attributes
    """,
    "bytes count as images or quantized values": """
        test_add_int8 test_add_uint8 test_clip_default_int8_min
    """,
    "a sum of a matrix and another view of one": """
        test_layer_normalization_4d_axis0*_expanded*
        test_layer_normalization_4d_axis_negative_4*_expanded*
        test_layer_normalization_2d_axis0*_expanded*
        test_layer_normalization_2d_axis_negative_2*_expanded*
        test_layer_normalization_3d_axis0*_expanded*
        test_layer_normalization_3d_axis_negative_3*_expanded*
    """,
    "an epsilon of 0.1, or rows without spread, which the machine's norms do not know": """
        test_batchnorm_epsilon_training_mode test_group_normalization_epsilon*
        test_layer_normalization_3d_axis0_epsilon
        test_layer_normalization_3d_axis_negative_3_epsilon
        test_layer_normalization_3d_axis1_epsilon
        test_layer_normalization_3d_axis_negative_2_epsilon
        test_layer_normalization_3d_axis2_epsilon
        test_layer_normalization_3d_axis_negative_1_epsilon test_rms_normalization_3d*
    """,
    "integers come in: the model has no float form": """
        test_dequantizelinear* test_qlinearmatmul* test_matmulinteger
    """,
    "scale and zero point are outputs: the model has no float form": """
        test_dynamicquantizelinear test_dynamicquantizelinear_max_adjusted
        test_dynamicquantizelinear_min_adjusted
    """,
    "a convolution over overlapping or padded patches": """
        test_basic* test_conv*
    """,
    "training: random, or statistics of the batch": """
        test_batchnorm_example_training_mode test_training_dropout_default*
        test_training_dropout test_training_dropout_mask
    """,
    "onnxruntime gives another result than ONNX": """
        test_resize_downsample_scales_linear_align_corners
        test_resize_downsample_scales_cubic_align_corners
    """,
    "onnxruntime has no kernel for the type, the version or the shapes": """
        test_attention_4d_diff_heads_mask4d_padded_kv test_max_int16 test_max_uint16
        test_min_int16 test_min_uint16 test_pow_types_float32_uint64
        test_pow_types_float32_uint32 test_quantizelinear* test_swiglu*
    """,
    "an equation that is no matmul": """
        test_einsum_transpose test_einsum_sum test_einsum_batch_diagonal test_einsum_inner_prod
        test_einsum_scalar
    """,
    "an empty tensor: there is nothing to compute": """
        test_constantofshape_int* test_reduce_log_sum_empty_set_expanded
        test_reduce_log_sum_exp_empty* test_reduce_l1_empty* test_reduce_l2_empty*
        test_reduce_sum_empty_set* test_reduce_sum_square_empty* test_reduce_max_empty*
        test_reduce_min_empty_set test_reduce_prod_empty_set test_reshape_allowzero_reordered
        test_split_zero*
    """,
    "a shape or a number of groups that comes in as data": """
        test_constantofshape_float_ones test_group_normalization_example
        test_reduce_max_bool_inputs test_reduce_min_bool_inputs test_top_k_uint64
        test_top_k_same* test_upsample_nearest
    """,
}
