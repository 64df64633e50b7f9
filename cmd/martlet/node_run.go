package main

import (
	"bytes"
	"fmt"
	"os"
)

// The file of a run is believed only where it was written: on this system since it started,
// and as this very file. In a copy of a data folder, or of a whole machine, it names a run that
// may live elsewhere: then the node is watched for a lease, as any other.

// runLength is how much of the file is the name of the run; the rest is the place.
const runLength = 8

// lastRun returns the run that surely has ended, nil if none is known. boot names the start of
// the system; with "" nothing is believed.
func lastRun(name, boot string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	about, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	place := runPlace(about, boot)
	if place == "" || len(text) < runLength || !bytes.Equal(text[runLength:], []byte(place)) {
		return nil, nil
	}
	return text[:runLength], nil
}

// writeRun keeps a run for lastRun. What a crash leaves of it is not believed.
func writeRun(name, boot string, run []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	about, err := f.Stat()
	if err == nil {
		_, err = f.Write(append(bytes.Clone(run), runPlace(about, boot)...))
	}
	if failed := f.Close(); err == nil {
		err = failed
	}
	return err
}

// runPlace names where a file is; "" if that cannot be told.
func runPlace(about os.FileInfo, boot string) string {
	file := fileID(about)
	if boot == "" || file == "" {
		return ""
	}
	return fmt.Sprintf(" %s %s\n", boot, file)
}
