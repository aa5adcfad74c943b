"""What users give, checked and in its normal form."""
