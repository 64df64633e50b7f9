package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/eml"
	"github.com/martlet-mail/martlet/internal/move/emlx"
)

// looseMail is the mailbox of messages that lie in no folder that would name one.
const looseMail = "Imported"

func importEml() importSource {
	return importSource{
		use: "eml PATH", short: "Bring mail from folders of .eml files",
		long: `Reads a folder of single messages (.eml, or MH folders, in which files are numbers), one
message, or what martlet export eml has written. Each folder is a mailbox; messages in the
folder itself go into ` + looseMail + `.`,
		example: `  martlet import eml ~/saved-mail --to carol@example.org --plan
  martlet import eml letter.eml --map ` + looseMail + `=INBOX --to carol@example.org`,
		args: arguments(1, 1),
		open: func(_ *cobra.Command, args []string) (opener, error) {
			p, err := openSource("eml", args[0])
			if err != nil {
				return nil, err
			}
			return func(context.Context, func(string)) (move.Source, error) {
				return eml.New(p.folder, p.name, looseMail, p.id), nil
			}, nil
		},
	}
}

func importEmlx() importSource {
	return importSource{
		use: "emlx PATH", short: "Bring mail from the folders of Apple Mail",
		long: `Reads the folders of Apple Mail: its own (~/Library/Mail/V10, or a part of it), with flags
and dates of arrival, or mailboxes that were exported with Mailbox > Export Mailbox.
Messages whose attachments lie in files beside them are put together again. Copy the
folder from the Mac as it is; Terminal needs Full Disk Access there to read it.`,
		example: `  martlet import emlx V10 --to carol@example.org --plan
  martlet import emlx Work.mbox --to carol@example.org`,
		args: arguments(1, 1),
		open: func(_ *cobra.Command, args []string) (opener, error) {
			p, err := openSource("emlx", args[0])
			if err == nil && p.name != "." {
				err = misused("%s is a file; give the folder that holds it", args[0])
			}
			if err != nil {
				return nil, err
			}
			root := looseMail
			if name, ok := strings.CutSuffix(p.base, ".mbox"); ok && name != "" {
				root = name
			}
			return func(context.Context, func(string)) (move.Source, error) {
				return emlx.New(p.folder, root, p.id, newTemp), nil
			}, nil
		},
	}
}
