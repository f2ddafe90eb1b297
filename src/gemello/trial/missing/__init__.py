"""Missing data: multiple imputation, reference-based imputation, delta adjustment, pooling."""
