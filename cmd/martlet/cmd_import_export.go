package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/outward"
)

// exported has a source that is files read a folder that martlet export has made by what the
// export says of itself: the account comes back as it was.
func exported(s importSource) importSource {
	kind, _, _ := strings.Cut(s.use, " ")
	switch outward.Form(kind) {
	case outward.Mbox, outward.Maildir, outward.EML:
	default:
		return s
	}
	s.long += "\n\nA folder that martlet export has made comes back as the identical account: with roles,\nsubscriptions, UIDs and every byte."
	open := s.open
	s.open = func(cmd *cobra.Command, args []string) (opener, error) {
		if _, err := os.Stat(filepath.Join(args[0], outward.ManifestName)); err != nil {
			return open(cmd, args)
		}
		f, err := openExport(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if string(f.Form()) != kind {
			return nil, misused("%s holds an export as %s; use: martlet import %s", args[0], f.Form(), f.Form())
		}
		return func(context.Context, func(string)) (move.Source, error) { return openExport(args[0]) }, nil
	}
	return s
}

// exportedFolder is one that is open.
type exportedFolder struct {
	*outward.Folder
	root *os.Root
}

// Close closes the folder.
func (f *exportedFolder) Close() error { return f.root.Close() }

func openExport(dir string) (*exportedFolder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "the folder cannot be opened", err)
	}
	f, err := outward.OpenFolder(root)
	if err == nil && f == nil {
		err = fault.New(fault.NotFound, "the folder is no export any more")
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &exportedFolder{f, root}, nil
}
