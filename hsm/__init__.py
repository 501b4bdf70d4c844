"""The one place that speaks PKCS#11."""
