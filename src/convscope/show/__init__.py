"""Drawing: records in, figures and files out. No torch, no training, no judging.

page/        the HTML page of a run            curves.py    matplotlib figures of a training
compare.py   the page that compares runs       images.py    grids of images
"""
