"""The command line, for operators.

commands     the arguments, and the exit status
doctor       look at an app or a provider, and report
end_logins   end the logins of a user, or of one session at the provider
loading      an object of the application, by module and attribute
stores       the store that ``--store`` names
"""
