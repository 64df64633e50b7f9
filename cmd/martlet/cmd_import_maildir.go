package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/maildir"
)

func importMaildir() importSource {
	return importSource{
		use: "maildir PATH", short: "Bring mail from a Maildir",
		long: `Reads a Maildir, Maildir++ (folders called .Sent.2025) or a tree of Maildirs, as Dovecot,
Courier, mbsync and others keep them, or what martlet export maildir has written. It may be
in use. With Dovecot's or Courier's lists of UIDs beside the mail, UIDs are kept and clients
download nothing again; their keywords and subscriptions are read too.`,
		example: `  martlet import maildir /var/vmail/example.org/carol/Maildir --to carol@example.org --plan
  martlet import maildir ~/Maildir --to carol@example.org`,
		args: arguments(1, 1),
		open: func(_ *cobra.Command, args []string) (opener, error) {
			p, err := openSource("maildir", args[0])
			if err == nil && p.name != "." {
				err = misused("%s is a file; a Maildir is a folder with the folders cur, new and tmp", args[0])
			}
			if err != nil {
				return nil, err
			}
			return func(context.Context, func(string)) (move.Source, error) {
				return maildir.New(p.folder, p.id), nil
			}, nil
		},
	}
}
