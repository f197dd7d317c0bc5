"""Everything that a secured cluster begins with: an authority and certificates, a secret, the first users.

It makes files, and looks at brokers from outside. Brokers and clients read the files as they read any other.
"""
