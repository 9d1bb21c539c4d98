"""The job file that `deblur init` writes: every section, with what may be set commented."""

TEMPLATE = """\
# A deblur job. `deblur plan` says what it takes, `deblur run` does it; both may be repeated.
archive = "archive"             # made if it isn't there; sources are never changed

[[sources]]                     # as many as you like
path = "frames"                 # folder, glob ("frames/*.png"), video, TIFF stack, .npy, Zarr; relative to this file
# id = "north-camera"           # name in the archive; default: from the path
# exposure_fraction = 0.5       # exposure time x frame rate (360 degree shutter = 1); else read or estimated
# frame_rate = 25.0             # frames a second, unless the files tell
# exposure_otherwise = 0.25     # where neither files nor frames tell; without it such a sequence is refused
# exposure_time = 0.01          # seconds, unless the files tell
# camera = "north"              # and metadata = { site = "A", lens = 35 }: the catalog finds sequences by them
# readout = 0.0                 # rolling shutter: time from first row to last x frame rate; 0: global shutter
# transfer = "auto"             # "srgb", "linear"; auto: 8-bit images are sRGB, everything else is linear

# [[watch]]                     # where sequences keep arriving, each match of pattern = one; else as [[sources]]
# path = "cameras/north"
# pattern = "*"
# quiet = 300                   # seconds without a change; before that it is still being written

[motion]
# method = "fast"

[restore]
# method = "richardson_lucy"
# iterations = 30
# strength = 1.0                # below 1 holds back: each pixel so much nearer to its source

[tiling]                        # chosen for each sequence, so that little is read or computed twice; `deblur plan` says
# window = 1024                 # px; the only one of these that decides a bit of the result
# unit = 2048                   # px; one task
# frames = 4                    # of one task

[limits]
memory = "4 GiB"                # per worker; a plan over it is refused
# broken = 0.1                  # share of a sequence's frames that may be quarantined
# max_pixels = 1073741824       # of a frame; likewise max_bytes, max_pages, max_ratio (decoded / stored bytes)
# links = "inside"              # "anywhere": symbolic links may lead out of a folder of sources

[decode]                        # foreign files, in a process of their own
# isolation = true
# memory = "1 GiB"              # beside six times a frame
# seconds = 120                 # of CPU time, for a frame

[cluster]
kind = "local"                  # "serial", "address", "ssh", "slurm" and other batch systems, "kubernetes"
# workers = 4                   # default: one a core
# patience = 60                 # seconds without any worker after which a run leaves

[publish]
# by = "quality"                # "person": every run waits for `deblur promote`
# quality = 0.0                 # least share of pixels restored or needing nothing; below it a run waits
# drop = 0.1                    # how much lower than the published run's that share may be

[hooks]                         # who is told when a night failed
# command = ["notify", "deblur"]  # gets the report on stdin
# webhook = "https://..."
# mail = "keeper@example.org"
"""
