"""The commands of an archive's keeper, a file a topic; `deblur.cli` puts them together.

Heavy imports happen inside the commands.
"""
