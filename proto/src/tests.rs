//! The machines against each other in virtual time, and tables of bytes.
