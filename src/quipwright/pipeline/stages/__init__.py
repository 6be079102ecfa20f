"""The stages of the method, one function each, over a frozen context: what a stage uses it is handed, what it learnt it
returns. Their results are kept on disk under keys that hash all of it."""
