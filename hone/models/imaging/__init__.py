"""Pictures: decoded behind guards, and preprocessed alike in training and in serving."""
