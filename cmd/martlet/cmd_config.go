package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
)

// defaultConfigs are where a command looks for the configuration, in this order.
var defaultConfigs = [...]string{"martlet.toml", "/etc/martlet/martlet.toml"}

// configPath returns the configuration file that the command means.
func configPath(cmd *cobra.Command) (string, error) {
	if path, _ := cmd.Flags().GetString("config"); path != "" {
		return path, nil
	}
	for _, path := range defaultConfigs {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", misused("no configuration: neither ./%s nor %s exists; name one with --config FILE", defaultConfigs[0], defaultConfigs[1])
}

// loadConfig reads the configuration that the command means.
func loadConfig(cmd *cobra.Command) (*conf.Config, string, error) {
	path, err := configPath(cmd)
	if err != nil {
		return nil, "", err
	}
	return loadConfigFile(path)
}

func loadConfigFile(path string) (*conf.Config, string, error) { return loadConfigBy(conf.Load, path) }

// loadBoth reads it as a command needs it that works on the stores of both engines.
func loadBoth(cmd *cobra.Command) (*conf.Config, string, error) {
	path, err := configPath(cmd)
	if err != nil {
		return nil, "", err
	}
	return loadConfigBy(conf.LoadBoth, path)
}

func loadConfigBy(load func(disk conf.Files, path, dir string) (*conf.Config, error), path string) (*conf.Config, string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	cfg, err := load(files, path, filepath.Dir(full))
	if fault.Is(err, fault.Invalid) {
		return nil, "", err // holds the faults, one a line
	}
	if err != nil {
		return nil, "", misconfigured(err)
	}
	return cfg, full, nil
}

func newConfigCommand() *cobra.Command {
	check := &cobra.Command{
		Use: "check [FILE]", Short: "Name every fault of a configuration file",
		Long: `Reads a configuration file and names file, line and key of every fault in it; for an
unknown key also the nearest known one. Exit code 2 if there is any.`,
		Example: `  martlet config check /etc/martlet/martlet.toml
  martlet config check --json martlet.toml`,
		Args: arguments(0, 1), RunE: checkConfig,
	}
	show := &cobra.Command{
		Use: "show [FILE]", Short: "Print every key with its meaning and present value",
		Long: `Prints every key of the configuration with its meaning and its present value, as a
file that could be used as it is. Passwords are starred out.`,
		Example: `  martlet config show
  martlet config show --config /etc/martlet/martlet.toml
  martlet config show --json | jq .queue`,
		Args: arguments(0, 1), RunE: showConfig,
	}
	return family("config", "Check or show the configuration", `The configuration is one TOML file for what the machine needs: listeners,
certificate, limits. Only what differs from the defaults need be in it.`, check, show)
}

// namedConfig is the file given as argument, or the one that commands find.
func namedConfig(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	return configPath(cmd)
}

func checkConfig(cmd *cobra.Command, args []string) error {
	path, err := namedConfig(cmd, args)
	if err != nil {
		return err
	}
	_, full, err := loadConfigFile(path)
	if wantsJSON(cmd) {
		return checkConfigJSON(cmd, path, err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s has no faults\n", full)
	return nil
}

func showConfig(cmd *cobra.Command, args []string) error {
	path, err := namedConfig(cmd, args)
	if err != nil {
		return err
	}
	cfg, _, err := loadConfigFile(path)
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return showConfigJSON(cmd, cfg)
	}
	return cfg.Show(cmd.OutOrStdout())
}
