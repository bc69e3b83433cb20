"""
The C{redcouch} command: what a migration needs beside the service.

L{main} is the command, one module each holds a subcommand; L{common}, L{storage}
and L{work} are what they share. The service imports none of this.
"""
