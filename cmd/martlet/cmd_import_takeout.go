package main

import (
	"context"
	"math"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/takeout"
)

func importTakeout() importSource {
	return importSource{
		use: "takeout PATH...", short: "Bring mail from a Google Takeout",
		long: `Reads a Takeout as Google makes it: its archives (zip or tgz, all parts in one call), the
folder they were unpacked into, or the mbox file alone. Nothing is unpacked onto the disk.

Gmail's labels, in the language of the account, become mailboxes (a message with several
labels lies in several) or keywords. Unread, starred and draft become flags, Spam goes into
Junk, archived mail into the mailboxes of its labels, else into Archive. No message comes
twice, from a later Takeout neither. If a label of Gmail's own is not known in your language: --label Luettu=opened.`,
		example: `  martlet import takeout takeout-20261129T101500Z-001.zip --to carol@example.org --plan
  martlet import takeout takeout-*.tgz --labels keywords --to carol@example.org
  martlet import takeout "All mail Including Spam and Trash.mbox" --to carol@example.org --json`,
		args: arguments(1, math.MaxInt),
		flags: func(f *pflag.FlagSet) {
			f.String("labels", "mailboxes", "what labels become: mailboxes or keywords")
			f.StringArray("label", nil, "NAME=WHAT: what one of Gmail's own labels is: inbox, sent, drafts, spam, trash, starred, important, unread, opened, archived, chat; label for one of your own")
		},
		open: openTakeout,
	}
}

func openTakeout(cmd *cobra.Command, args []string) (opener, error) {
	// All Takeouts are one source: a later one has other file names, and brings what is new.
	opt := takeout.Options{ID: "takeout:google", Names: map[string]string{}, Temp: newTemp}
	text, _ := cmd.Flags().GetString("labels")
	var err error
	if opt.Labels, err = takeout.ParseLabels(text); err != nil {
		return nil, misused("%v", err)
	}
	more, _ := cmd.Flags().GetStringArray("label")
	for _, m := range more {
		name, what, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return nil, misused("--label %q is not of the form NAME=WHAT, such as Luettu=opened", m)
		}
		opt.Names[name] = what
	}
	for _, a := range args {
		p, err := openSource("takeout", a)
		if err != nil {
			return nil, err
		}
		opt.Parts = append(opt.Parts, takeout.Part{FS: p.folder, Name: p.name})
	}
	if _, err := takeout.New(opt); err != nil {
		return nil, misused("--label: %s", fault.Say(err))
	}
	return func(context.Context, func(string)) (move.Source, error) { return takeout.New(opt) }, nil
}
