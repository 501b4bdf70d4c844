"""What two or more rooms need, importing none of them: configuration, errors, the database, time, CMS."""
