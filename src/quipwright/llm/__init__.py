"""One question to a large model, one answer that is kept: servers, local weights, files."""
