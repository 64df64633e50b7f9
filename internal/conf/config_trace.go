package conf

// Trace says for how long is known what became of messages ("martlet trace"). Who wrote to
// whom, when, and the subject are kept; no more of a message is.
type Trace struct {
	// Time for which it is known; 0 keeps nothing.
	Keep Duration `toml:"keep" default:"30d"`

	// Room for it in the data folder; the oldest goes first.
	Size Size `toml:"size" default:"1GB"`
}
