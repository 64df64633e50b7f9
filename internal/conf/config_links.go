package conf

// Links keep accounts in step with mailboxes elsewhere: martlet link.
type Links struct {
	// Whether they are carried out. If not, all stay as they are, and nothing is done by itself.
	Enabled bool `toml:"enabled" default:"true"`

	// Links that are carried out at the same time.
	Concurrency int `toml:"concurrency" default:"8" min:"1" max:"1000"`

	// Links that stay connected to be told of new mail at once (IDLE). The others look for it
	// now and then. Each takes about as much memory as a mail program that is connected here.
	Connections int `toml:"connections" default:"200" min:"0" max:"100000"`

	// Time between two looks for news, unless a link says otherwise.
	Poll Duration `toml:"poll" default:"5m" min:"10s" max:"7d"`

	// PEM file with the authorities that sign the certificates of sources; empty means those
	// of the system.
	CA Path `toml:"ca" default:""`

	// Whether sources may be on this machine and in private networks. Only who may use the
	// admin socket adds links, so it need not be forbidden to protect what is behind them.
	AllowPrivate bool `toml:"allow_private" default:"true"`

	// Programs that are registered at providers for signing in with OAuth.
	Clients []LinkClient `toml:"client"`
}

// LinkClient is a program that is registered at a provider where people sign in. None comes
// with this server: providers want to know who runs it.
type LinkClient struct {
	// "google", "microsoft" and others that martlet link add --help names, or the https
	// address of an issuer.
	Provider string `toml:"provider" default:""`

	// What the provider calls the program.
	ID string `toml:"client_id" default:""`

	// File whose first line is the secret that belongs to it; empty for a public one.
	SecretFile Path `toml:"client_secret_file" default:""`
}

// Secret returns the secret of the client, "" if it has none.
func (c LinkClient) Secret(disk Files) (string, error) {
	if c.SecretFile == "" {
		return "", nil
	}
	return firstLine(disk, c.SecretFile, "the file of client_secret_file")
}

func (r *reader) checkLinks(clients []LinkClient) {
	seen := map[string]bool{}
	for i, c := range clients {
		key := element("links.client", i)
		r.needed(key, "provider", c.Provider)
		r.needed(key, "client_id", c.ID)
		if c.Provider != "" && seen[c.Provider] {
			r.fail(key+".provider", "%q has a client already", c.Provider)
		}
		seen[c.Provider] = true
	}
}
