"""Tissue: cells on a grid, coupled by diffusion (the monodomain equation), their activation times, potentials and pseudo-ECG.

`Grid` says which voxels are tissue and how they conduct; `Diffusion` is its operator; `Tissue` puts cells on it; `simulate`
solves.
"""

from gemello.domains.heart.tissue.diffusion import Diffusion as Diffusion
from gemello.domains.heart.tissue.ecg import lead_field as lead_field
from gemello.domains.heart.tissue.ecg import pseudo_ecg as pseudo_ecg
from gemello.domains.heart.tissue.grid import Grid as Grid
from gemello.domains.heart.tissue.grid import cable as cable
from gemello.domains.heart.tissue.grid import fibre_conductivity as fibre_conductivity
from gemello.domains.heart.tissue.grid import largest_piece as largest_piece
from gemello.domains.heart.tissue.grid import slab as slab
from gemello.domains.heart.tissue.simulate import Course as Course
from gemello.domains.heart.tissue.simulate import Pulse as Pulse
from gemello.domains.heart.tissue.simulate import Tissue as Tissue
from gemello.domains.heart.tissue.simulate import front_speed as front_speed
from gemello.domains.heart.tissue.simulate import simulate as simulate
