"""A trained student as other tools take it: an adapter, a transformers folder, a PEFT folder, GGUF files; and the hub."""
