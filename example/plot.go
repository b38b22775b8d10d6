package main

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// What becomes of a call, by color.
var (
	waiting  = color.RGBA{0xcf, 0xd6, 0xe0, 0xff}
	atServer = color.RGBA{0x2f, 0x6f, 0xd0, 0xff}
	done     = color.RGBA{0x1a, 0x7f, 0x37, 0xff}
	refused  = color.RGBA{0xd1, 0x24, 0x2f, 0xff}
	quota    = color.RGBA{0xd9, 0xa4, 0x41, 0xff}
	bucket   = color.RGBA{0x24, 0x29, 0x2f, 0xff}
)

var legend = []struct {
	name string
	icon plot.Thumbnailer
}{
	{"waiting", swatch(waiting)},
	{"at the API", swatch(atServer)},
	{"done", symbol{dot}},
	{"refused (429)", symbol{cross}},
	{"left of the API's minute", swatch(quota)},
	{"left in the bucket", stroke{}},
}

var (
	dot    = draw.GlyphStyle{Color: done, Radius: vg.Points(2.6), Shape: draw.CircleGlyph{}}
	cross  = draw.GlyphStyle{Color: refused, Radius: vg.Points(2.6), Shape: saltire{}}
	dashes = draw.LineStyle{Color: bucket, Width: vg.Points(1.5), Dashes: []vg.Length{vg.Points(4), vg.Points(2)}}
)

const (
	pictureWidth  = 9 * vg.Inch
	pictureHeight = 5 * vg.Inch
	legendHeight  = vg.Inch / 3
	callsHeight   = vg.Inch // more than the levels have
	dotsPerInch   = 160
)

// A canvas is a picture in some file format.
type canvas interface {
	vg.CanvasSizer
	io.WriterTo
}

// formats are the file formats, by extension.
var formats = map[string]func() canvas{
	".png": func() canvas {
		return vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(pictureWidth, pictureHeight), vgimg.UseDPI(dotsPerInch))}
	},
	".svg": func() canvas {
		return vgsvg.NewWith(vgsvg.UseWH(pictureWidth, pictureHeight), vgsvg.EmbedFonts(true))
	},
}

// save draws two steps side by side and writes them to a file: above what became
// of each call, and below what was left of a quota of n.
func save(file string, n int, without, with *timeline) error {
	until := max(without.end(), with.end()) * 21 / 20
	plots := [][]*plot.Plot{
		{callsOf(without, "Without tollgate", until), callsOf(with, "With tollgate", until)},
		{levelsOf(without, n, until), levelsOf(with, n, until)},
	}
	c := formats[filepath.Ext(file)]()
	all := draw.New(c)
	left := vg.Inch / 2
	for _, entry := range legend {
		l := plot.NewLegend()
		l.Left, l.Top = true, true
		l.TextStyle.Font = sans(10)
		l.Add(entry.name, entry.icon)
		l.Draw(draw.Crop(all, left, 0, 0, -vg.Points(6)))
		left += l.Rectangle(all).Size().X + vg.Points(18)
	}
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadTop: legendHeight, PadRight: vg.Points(8), PadX: vg.Points(12), PadY: vg.Points(6)}
	for row, canvases := range plot.Align(plots, tiles, all) {
		for col, c := range canvases {
			if row == 0 {
				c.Min.Y -= callsHeight / 2
			} else {
				c.Max.Y -= callsHeight / 2
			}
			plots[row][col].Draw(c)
		}
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = c.WriteTo(f)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func sans(points float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(points)}
}

// newPlot returns a plot whose horizontal axis is time.
func newPlot(until time.Duration, top float64, what ...plot.Plotter) *plot.Plot {
	p := plot.New()
	p.Add(what...)
	p.X.Min, p.X.Max = 0, until.Seconds()
	p.Y.Min, p.Y.Max = 0, top
	p.X.Padding, p.Y.Padding = 0, 0
	p.Y.Tick.Marker = whole{}
	p.Title.TextStyle.Font = sans(12)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = sans(10)
		axis.Tick.Label.Font = sans(9)
	}
	return p
}

// whole has ticks at whole numbers only.
type whole struct{ plot.DefaultTicks }

func (w whole) Ticks(from, to float64) (list []plot.Tick) {
	for _, t := range w.DefaultTicks.Ticks(from, to) {
		if t.Value == float64(int64(t.Value)) {
			list = append(list, t)
		}
	}
	return list
}

// callsOf draws a bar for each call, from below in the order in which they were
// sent.
func callsOf(t *timeline, title string, until time.Duration) *plot.Plot {
	calls := slices.Clone(t.calls)
	slices.SortStableFunc(calls, func(a, b call) int { return cmp.Compare(a.sent(), b.sent()) })
	var wait, sent bars
	var ok, no plotter.XYs
	for i, c := range calls {
		y, from := float64(i+1), time.Duration(0)
		for _, a := range c.attempts {
			wait = append(wait, bar{y, from, a.sent})
			sent = append(sent, bar{y, a.sent, a.answered})
			from = a.answered
			switch a.status {
			case http.StatusOK:
				ok = append(ok, plotter.XY{X: a.answered.Seconds(), Y: y})
			case http.StatusTooManyRequests:
				no = append(no, plotter.XY{X: a.answered.Seconds(), Y: y})
			}
		}
	}
	p := newPlot(until, float64(len(calls))+1, wait.in(waiting), sent.in(atServer),
		&plotter.Scatter{XYs: ok, GlyphStyle: dot}, &plotter.Scatter{XYs: no, GlyphStyle: cross})
	p.Title.Text = fmt.Sprintf("%s: %d done, %d refused", title, len(ok), len(no))
	p.Y.Label.Text = "call"
	return p
}

// levelsOf draws what was left of a quota of n.
func levelsOf(t *timeline, n int, until time.Duration) *plot.Plot {
	p := newPlot(until, float64(n)+1,
		&plotter.Line{XYs: steps(t.api, until), StepStyle: plotter.PostStep, FillColor: quota},
		&plotter.Line{XYs: steps(t.bucket, until), StepStyle: plotter.PostStep, LineStyle: dashes})
	p.X.Label.Text = "seconds"
	p.Y.Label.Text = "requests left"
	return p
}

// steps returns levels up to a time, none below 0.
func steps(levels []level, until time.Duration) (list plotter.XYs) {
	for _, l := range levels {
		if l.at < until {
			list = append(list, plotter.XY{X: l.at.Seconds(), Y: float64(max(l.left, 0))})
		}
	}
	if len(list) > 0 {
		list = append(list, plotter.XY{X: until.Seconds(), Y: list[len(list)-1].Y})
	}
	return list
}

// bars are spans of time.
type bars []bar

type bar struct {
	y        float64
	from, to time.Duration
}

// in returns the bars in a color.
func (b bars) in(c color.Color) plot.Plotter { return colored{b, c} }

type colored struct {
	bars  bars
	color color.Color
}

// Plot implements plot.Plotter. A bar is at least a point wide.
func (b colored) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	height := (y(1) - y(0)) * 7 / 10
	for _, s := range b.bars {
		if s.to <= s.from {
			continue
		}
		left, right := x(s.from.Seconds()), x(s.to.Seconds())
		fill(c, b.color, left, max(right, left+vg.Points(1)), y(s.y)-height/2, y(s.y)+height/2)
	}
}

// swatch is a color in a legend.
type swatch color.RGBA

// Thumbnail implements plot.Thumbnailer.
func (s swatch) Thumbnail(c *draw.Canvas) {
	fill(*c, color.RGBA(s), c.Min.X, c.Max.X, c.Min.Y+vg.Points(3), c.Max.Y-vg.Points(3))
}

// symbol is a glyph in a legend.
type symbol struct{ draw.GlyphStyle }

// Thumbnail implements plot.Thumbnailer.
func (s symbol) Thumbnail(c *draw.Canvas) { c.DrawGlyph(s.GlyphStyle, c.Center()) }

// stroke is that of the bucket in a legend.
type stroke struct{}

// Thumbnail implements plot.Thumbnailer.
func (stroke) Thumbnail(c *draw.Canvas) {
	c.StrokeLine2(dashes, c.Min.X, c.Center().Y, c.Max.X, c.Center().Y)
}

// saltire is a cross that is thicker than the library's.
type saltire struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (saltire) DrawGlyph(c *draw.Canvas, g draw.GlyphStyle, at vg.Point) {
	s, r := draw.LineStyle{Color: g.Color, Width: vg.Points(1.3)}, g.Radius
	c.StrokeLine2(s, at.X-r, at.Y-r, at.X+r, at.Y+r)
	c.StrokeLine2(s, at.X-r, at.Y+r, at.X+r, at.Y-r)
}

// fill draws a rectangle.
func fill(c draw.Canvas, clr color.Color, left, right, bottom, top vg.Length) {
	c.FillPolygon(clr, []vg.Point{{X: left, Y: bottom}, {X: right, Y: bottom}, {X: right, Y: top}, {X: left, Y: top}})
}
