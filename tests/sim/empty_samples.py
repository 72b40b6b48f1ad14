"""A bench module without tests."""
