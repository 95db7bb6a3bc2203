"""What is trained: prior and restoration, their losses, validation and how one starts from the other."""
