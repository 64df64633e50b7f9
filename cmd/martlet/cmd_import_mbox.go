package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/mbox"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

func importMbox() importSource {
	return importSource{
		use: "mbox PATH", short: "Bring mail from mbox files",
		long:    "Reads an mbox file, or a folder of them.",
		example: "  martlet import mbox ~/mail/archive.mbox --to carol@example.org --plan\n  martlet import mbox ~/mail --to carol@example.org --json",
		args:    arguments(1, 1),
		open: func(_ *cobra.Command, args []string) (opener, error) {
			dir, name, id, err := sourcePath("mbox", args[0])
			if err != nil {
				return nil, err
			}
			return func(context.Context, func(string)) (move.Source, error) {
				return mbox.New(os.DirFS(dir), name, mbox.Options{ID: id, Temp: func() (rfc822.Temp, error) { return tempFile() }}), nil
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
