package main

import "github.com/spf13/cobra"

func importPST() importSource {
	return importSource{
		use: "pst FILE", short: "How to bring mail from Outlook's PST and OST files",
		long: `Martlet does not read PST files itself: no library for them that is maintained and has a
fit licence can be had. Two steps bring the mail:

  apt install pst-utils      (on other systems: the package of libpst)
  readpst -r -D -j 0 -o OUT FILE     (OUT must be an empty folder that is there)
  martlet import mbox OUT --to ADDRESS

Folders, dates and attachments are kept; Outlook's flags are not in what readpst writes,
except for read and unread.`,
		example: "  martlet import pst archive.pst --to carol@example.org\n  martlet import mbox OUT --to carol@example.org",
		args:    arguments(1, 1),
		open: func(_ *cobra.Command, args []string) (opener, error) {
			return nil, failed("PST files are not read here: unpack it with readpst (package pst-utils), and import what it writes: mkdir OUT; readpst -r -D -j 0 -o OUT %q; martlet import mbox OUT --to ADDRESS", args[0])
		},
	}
}
