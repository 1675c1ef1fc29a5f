"""Trained models of others: Hugging Face folders, llama2.c files."""
