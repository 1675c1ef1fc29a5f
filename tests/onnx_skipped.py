"""The node tests of ONNX that `test_onnx_backend` skips, by reason; onnx 1.23."""

SKIPPED: dict[str, str] = {
    "fully masked or NaN on purpose: a tensor is not finite, so that it has no scale": """
        test_attention_23*_expanded* test_attention_24*_expanded* test_mod_float_*
        test_attention_causal_boolmask_nan_robustness
        test_attention_23_boolmask_fullymasked_row_nan_robustness
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
    "integers come in: the model has no float form": """
        test_dequantizelinear* test_qlinearmatmul* test_matmulinteger
    """,
    "scale and zero point are outputs: the model has no float form": """
        test_dynamicquantizelinear test_dynamicquantizelinear_max_adjusted
        test_dynamicquantizelinear_min_adjusted
    """,
    "training: random, or statistics of the batch": """
        test_batchnorm_example_training_mode test_batchnorm_epsilon_training_mode
        test_training_dropout_default* test_training_dropout test_training_dropout_mask
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
        test_constantofshape_float_ones
        test_reduce_max_bool_inputs test_reduce_min_bool_inputs test_top_k_uint64
        test_top_k_same* test_upsample_nearest
    """,
}
