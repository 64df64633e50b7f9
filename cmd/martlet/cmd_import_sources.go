package main

// importSources are the kinds of sources, in the order of the overview. Each is a row and a
// file of its own, cmd_import_NAME.go.
func importSources() []importSource {
	return []importSource{
		importIMAP(),
		importPOP3(), importMbox(), importMaildir(), importTakeout(), importEmlx(), importEml(), importDbox(), importPST(),
	}
}
