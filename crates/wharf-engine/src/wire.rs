//! What engines send, read into the model's types. Only the few fields that Wharf decides on are read.
