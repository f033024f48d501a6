"""What every surface uses: routes, keys of the application, errors, credentials, parameters, bodies. Imports no surface."""
