"""The spine of every service: facts as a log, commands as a queue, and the process that runs both."""
