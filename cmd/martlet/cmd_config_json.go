package main

import (
	"bytes"
	"errors"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
)

// checkConfigJSON prints the faults, one object a line, and one with ok if there are
// none.
func checkConfigJSON(cmd *cobra.Command, path string, err error) error {
	var faults conf.Faults
	switch {
	case err == nil:
		return printJSON(cmd.OutOrStdout(), map[string]any{"ok": true, "file": path})
	case !errors.As(err, &faults):
		return err
	}
	for _, f := range faults {
		line := struct {
			File    string `json:"file"`
			Line    int    `json:"line"`
			Key     string `json:"key"`
			Problem string `json:"problem"`
		}{f.File, f.Line, f.Key, f.Problem}
		if err := printJSON(cmd.OutOrStdout(), line); err != nil {
			return err
		}
	}
	return err
}

// showConfigJSON prints what Show prints, as one object with the keys of the file.
func showConfigJSON(cmd *cobra.Command, cfg *conf.Config) error {
	var text bytes.Buffer
	if err := cfg.Show(&text); err != nil {
		return err
	}
	var all map[string]any
	if err := toml.Unmarshal(text.Bytes(), &all); err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), all)
}
