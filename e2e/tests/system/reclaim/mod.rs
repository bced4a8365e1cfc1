//! The executor is killed with -9 at named points of its and its jobs' life, while another one on the same
//! machine, with the same names for its virtual machines, has a job running. The next executor on the dead one's
//! state directory leaves nothing of it behind, takes nothing of the other one's, and runs jobs on what the dead
//! one left in its caches.

mod containers;
mod ending;
mod neighbour;
mod preparing;
mod running;
mod stage;
mod starting;
