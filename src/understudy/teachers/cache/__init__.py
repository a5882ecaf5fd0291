"""What a teacher says, written to disk once: `formats` has the targets, `store` the files, `cached` the teacher."""
