"""What raters and whoever runs a study see in a browser: pages made on the server, no script needed."""
