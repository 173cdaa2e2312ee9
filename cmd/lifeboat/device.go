package main

import (
	"fmt"
	"os"
	"strings"

	"lifeboat/blockdev"
)

// hardwareWords says of a disk what a person knows it by.
func hardwareWords(d blockdev.Device) string {
	words := []string{humanBytes(d.SizeBytes)}
	if d.Model != "" {
		words = append(words, d.Model)
	}
	if d.Serial != "" {
		words = append(words, "serial number "+d.Serial)
	}
	if link := linkWords(d); link != "" {
		words = append(words, link)
	}
	return strings.Join(words, ", ")
}

// linkWords say what a disk hangs on, if that is known.
func linkWords(d blockdev.Device) string {
	if d.LinkMbit > 0 {
		return fmt.Sprintf("USB at %d Mbit/s", d.LinkMbit)
	}
	return d.Transport
}

// deviceWords says of a block device, a disk or a part of one, what a person
// knows it by: its size, its model, and what is on it. It only looks.
func deviceWords(path string) string {
	d, err := blockdev.Of(path)
	if err != nil {
		return "of unknown size"
	}
	words := []string{"of " + humanBytes(d.SizeBytes)}
	for _, p := range d.Partitions {
		if p.Path == path {
			words = []string{"of " + humanBytes(p.SizeBytes), "a part of " + d.Path}
		}
	}
	if d.Model != "" {
		words = append(words, d.Model)
	}
	if n := len(d.Partitions); n > 0 && d.Path == path {
		words = append(words, "with "+count(n, "partition"))
	}
	if what := contentOf(path); what != "" {
		words = append(words, "it holds "+what)
	}
	return strings.Join(words, ", ")
}

// contentOf names what the beginning of a device looks like, or is "".
func contentOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 68<<10)
	n, _ := f.ReadAt(head, 0)
	if found := blockdev.Signatures(head[:n]); len(found) > 0 {
		return found[0]
	}
	return ""
}
