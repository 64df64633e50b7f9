package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/mbox"
)

func importMbox() importSource {
	return importSource{
		use: "mbox PATH", short: "Bring mail from mbox files",
		long: `Reads an mbox file, or a folder of them such as a Thunderbird profile or what martlet export
mbox has written. Files may be packed (gzip, bzip2, zstd). Flags, keywords and UIDs are
taken from the fields in which Dovecot, mutt and Thunderbird keep them.

Messages stay as they are, but for the quoting of lines that begin with "From "; the
fields of status stay too, unless --strip-status is given.`,
		example: `  martlet import mbox ~/mail/archive.mbox --to carol@example.org --plan
  martlet import mbox ~/.thunderbird/x.default/Mail --to carol@example.org
  martlet import mbox old.mbox.gz --quoting mboxcl2 --to carol@example.org --json`,
		args: arguments(1, 1),
		flags: func(f *pflag.FlagSet) {
			f.String("quoting", "auto", "mboxo, mboxrd, mboxcl or mboxcl2; auto finds it out")
			f.Bool("strip-status", false, "leave out the fields Status, X-Status, X-Keywords, X-UID, X-Mozilla-Status and their like")
		},
		open: func(cmd *cobra.Command, args []string) (opener, error) {
			name, _ := cmd.Flags().GetString("quoting")
			quoting, err := mbox.ParseQuoting(name)
			if err != nil {
				return nil, misused("%v", err)
			}
			strip, _ := cmd.Flags().GetBool("strip-status")
			p, err := openSource("mbox", args[0])
			if err != nil {
				return nil, err
			}
			return func(context.Context, func(string)) (move.Source, error) {
				return mbox.New(p.folder, p.name, mbox.Options{ID: p.id, Quoting: quoting, StripStatus: strip, Temp: newTemp}), nil
			}, nil
		},
	}
}

// sourcePath splits the path of a source into a folder and a name in it ("." for the folder
// itself), and names the source.
func sourcePath(kind, path string) (dir, name, id string, err error) {
	whole, err := filepath.Abs(path)
	if err == nil {
		whole, err = filepath.EvalSymlinks(whole)
	}
	if err != nil {
		return "", "", "", failed("cannot read %s: %v", path, err)
	}
	info, err := os.Stat(whole)
	if err != nil {
		return "", "", "", failed("cannot read %s: %v", path, err)
	}
	dir, name = whole, "."
	if !info.IsDir() {
		dir, name = filepath.Split(whole)
	}
	if id = kind + ":" + whole; len(id) > 400 {
		id = id[:len(kind)+1] + shortID(whole)
	}
	return dir, name, id, nil
}
