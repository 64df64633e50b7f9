package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
)

func newStoreCommand() *cobra.Command {
	return family("store", "Take a store from one machine to a database, and back",
		`The store of one machine (the engine pebble) is a folder; that of several (postgres) is a
database, with an object store for large bodies if [blobs] names one. Either can become the
other, and no mail program notices: mailboxes, UIDs and everything else stay as they are.`,
		newStoreCopyCommand(), newStoreReopenCommand())
}

func newStoreReopenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reopen {pebble | postgres}", Short: "Serve again from a store that was copied to another",
		Long: `Takes the mark from a store that says that it was, or is being, copied to another. What has
come to the other since is not in it: mail programs that have seen that may take new messages for
old ones. It is for a copy that is given up. No server may run on the store.`,
		Example: `  martlet store reopen pebble
  martlet store reopen postgres --config /etc/martlet/martlet.toml`,
		Args: arguments(1, 1), RunE: reopenStore,
	}
}

// engineName reads the name of an engine.
func engineName(flag, name string) (string, error) {
	if name != "pebble" && name != "postgres" {
		return "", misused("%s %q is neither pebble nor postgres", flag, name)
	}
	return name, nil
}

func reopenStore(cmd *cobra.Command, args []string) error {
	name, err := engineName("the engine", args[0])
	if err != nil {
		return err
	}
	cfg, _, err := loadBoth(cmd)
	if err != nil {
		return err
	}
	return withSide(cmd, cfg, name, func(ctx context.Context, s *side) error {
		m, err := readMarks(ctx, s.engine)
		if err != nil {
			return err
		}
		if m.source == nil {
			return failed("the %s store has no such mark", name)
		}
		if err := s.reopen(ctx); err != nil {
			return err
		}
		if err := setMark(ctx, s.engine, sourceKey, nil); err != nil {
			return err
		}
		return tellChange(cmd, map[string]any{"engine": name, "reopened": true}, "the "+name+" store can be served from again")
	})
}

// tellChange tells of a change in one line.
func tellChange(cmd *cobra.Command, line any, text string) error {
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), line)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// withSide opens a store as it is, without a house on it.
func withSide(cmd *cobra.Command, cfg *conf.Config, name string, use func(context.Context, *side) error) error {
	ctx := cmd.Context()
	if err := giveUpRoot(cfg); err != nil {
		return err
	}
	s, err := openSide(ctx, cfg, name, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.alone(ctx, saysOnce(cmd.ErrOrStderr())); err != nil {
		return err
	}
	return use(ctx, s)
}

// saysOnce tells of each node that it is looked whether it still runs.
func saysOnce(w io.Writer) func(node string) {
	said := map[string]bool{}
	return func(node string) {
		if !said[node] {
			said[node] = true
			fmt.Fprintf(w, "node %s has not said good-bye; looking whether it still runs\n", clean(node))
		}
	}
}
