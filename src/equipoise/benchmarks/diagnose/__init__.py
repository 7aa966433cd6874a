"""`equipoise diagnose`: looks at the gradients of a problem before anything is trained."""
