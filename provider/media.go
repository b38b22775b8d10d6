package provider

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
)

// What media cost: https://ai.google.dev/gemini-api/docs/tokens.
const (
	tile        = 258 // an image of up to 384 pixels each way, each 768 by 768 of a larger one, and a page
	audioSecond = 32
	videoSecond = 263
)

// Bytes in a second of sound, of film and in a page, where they do not say.
const (
	audioRate = 128_000 / 8
	videoRate = 1_000_000 / 8
	pageSize  = 50_000
)

// media estimates what inline data of so many bytes costs, head being the
// beginning of it in base64.
func media(mime string, head []byte, size int64) int64 {
	switch kind, _, _ := strings.Cut(mime, "/"); kind {
	case "image":
		return image64(head)
	case "audio":
		return 1 + size*audioSecond/soundRate(head)
	case "video":
		return 1 + size*videoSecond/videoRate
	case "text":
		return 1 + size/3
	}
	return tile * (1 + size/pageSize)
}

func decode(head []byte) io.Reader {
	return base64.NewDecoder(base64.StdEncoding, bytes.NewReader(head))
}

// image64 returns the cost of an image: 4 tiles if its size does not show.
func image64(head []byte) int64 {
	for _, size := range []func(io.Reader) (image.Config, error){png.DecodeConfig, jpeg.DecodeConfig, gif.DecodeConfig} {
		c, err := size(decode(head))
		switch {
		case err != nil:
			continue
		case c.Width <= 384 && c.Height <= 384:
			return tile
		}
		return tile * int64((c.Width+767)/768) * int64((c.Height+767)/768)
	}
	return 4 * tile
}

// soundRate returns the bytes in a second of sound, which a WAVE file states.
func soundRate(head []byte) int64 {
	var wave [32]byte
	if _, err := io.ReadFull(decode(head), wave[:]); err == nil && string(wave[:4]) == "RIFF" && string(wave[8:12]) == "WAVE" {
		if n := binary.LittleEndian.Uint32(wave[28:]); n > 0 {
			return int64(n)
		}
	}
	return audioRate
}
