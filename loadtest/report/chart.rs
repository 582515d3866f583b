//! One chart as SVG, by plotters. Colours are those of the light page; the page's style maps each to its dark one.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::markup::escape;
use super::numbers::{count, round_ms};

/// Drawn at twice the size at which it is shown: plotters' coordinates are whole numbers.
const SIZE: (u32, u32) = (1240, 460);
const FONT: f64 = 30.0;
const LEFT: u32 = 142;
const BOTTOM: u32 = 52;
/// More tips than this are put together.
pub(crate) const TIPS_MOST: usize = 240;

/// What is drawn, from back to front.
#[derive(Debug, Default)]
pub(crate) struct Chart {
    /// Above it.
    pub(crate) title: String,
    /// Below it, when there is something to say.
    pub(crate) note: String,
    /// What the colours mean.
    pub(crate) legend: Vec<(Colour, String)>,
    /// From left to right.
    pub(crate) x: Axis,
    /// Upwards.
    pub(crate) y: Axis,
    /// Stretches of x that are not counted.
    pub(crate) bands: Vec<(f64, f64)>,
    /// Things.
    pub(crate) layers: Vec<Layer>,
    /// What is said where the pointer is: from, to, text.
    pub(crate) tips: Vec<(f64, f64, String)>,
}

/// One thing in a chart.
#[derive(Debug)]
pub(crate) enum Layer {
    /// A line; thick when it matters most.
    Line {
        /// Its colour.
        colour: Colour,
        /// Its points.
        points: Vec<(f64, f64)>,
        /// In half pixels.
        width: u32,
    },
    /// A filled shape.
    Shape {
        /// Its colour.
        colour: Colour,
        /// Its outline.
        points: Vec<(f64, f64)>,
    },
    /// Dots.
    Dots {
        /// Their colour.
        colour: Colour,
        /// Where.
        points: Vec<(f64, f64)>,
    },
    /// Small marks at the lower edge.
    Marks {
        /// Their colour.
        colour: Colour,
        /// Where.
        at: Vec<f64>,
    },
}

/// One direction: its ends and what is written along it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

/// Each a colour of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Lines that the eye should find only when it looks for them.
    Grid,
    /// Labels.
    Label,
    /// A warm-up.
    Band,
    /// A ramp: the lightest.
    Ramp1,
    /// Between.
    Ramp2,
    /// The strongest.
    Ramp3,
    /// What is not the point, but belongs there.
    Grey,
    /// The first of two, and answers that are good.
    Blue,
    /// The second of two, and starts.
    Orange,
    /// Good ones too.
    Aqua,
    /// Refusals.
    Yellow,
    /// Errors.
    Red,
    /// Other errors.
    Pink,
    /// No answer.
    Violet,
}

// === impl Colour ===

impl Colour {
    /// All of them: class of the page, light, dark.
    pub(crate) const ALL: [(Self, &'static str, u32, u32); 14] = [
        (Self::Grid, "grid", 0x00e1_e0d9, 0x002c_2c2a),
        (Self::Label, "label", 0x006b_6a65, 0x009a_9992),
        (Self::Band, "band", 0x00f0_efe9, 0x0026_2624),
        (Self::Ramp1, "ramp1", 0x009c_c4f3, 0x002c_5f9e),
        (Self::Ramp2, "ramp2", 0x003f_88dc, 0x004a_90e2),
        (Self::Ramp3, "ramp3", 0x0014_4a8c, 0x00a9_d0ff),
        (Self::Grey, "grey", 0x00a9_a8a0, 0x006f_6e68),
        (Self::Blue, "blue", 0x002a_78d6, 0x0039_87e5),
        (Self::Orange, "orange", 0x00eb_6834, 0x00e0_6a35),
        (Self::Aqua, "aqua", 0x001b_af7a, 0x0019_9e70),
        (Self::Yellow, "yellow", 0x00ed_a100, 0x00c9_8500),
        (Self::Red, "red", 0x00e3_4948, 0x00e6_6767),
        (Self::Pink, "pink", 0x00e8_7ba4, 0x00d5_5181),
        (Self::Violet, "violet", 0x004a_3aa7, 0x0090_85e9),
    ];

    fn rgb(self) -> RGBColor {
        let (.., light, _) = Self::ALL[self as usize];
        RGBColor((light >> 16) as u8, (light >> 8) as u8, light as u8)
    }

    /// Its class on the page.
    pub(crate) fn class(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

// === impl Axis ===

impl Axis {
    /// From 0 to at least `most`, in steps of 1, 2 or 5 times a power of ten.
    pub(crate) fn linear(most: f64, show: impl Fn(f64) -> String) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = step(most / 4.0, &[1.0, 2.0, 5.0, 10.0]);
        let ticks = multiples(step, most).map(|at| (at, show(at))).collect();
        Self { from: 0.0, to: most * 1.06, log: false, ticks }
    }

    /// The same for whole things.
    pub(crate) fn whole(most: u64) -> Self {
        let mut axis = Self::linear(most.max(1) as f64, |at| count(at.round() as u64));
        axis.ticks.retain(|(at, _)| (at - at.round()).abs() < 1e-9);
        axis
    }

    /// Milliseconds: linear, or logarithmic when the values differ so much that small ones would lie on the edge.
    pub(crate) fn ms(values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|v| *v > 0.0);
        let (least, most) = values.fold((f64::MAX, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        if most <= 0.0 || most / least < 20.0 {
            return Self::linear(most, round_ms);
        }
        let (from, to) = (least.log10().floor(), (most * 1.1).log10());
        let mut ticks = Vec::new();
        let dense = to - from < 2.5;
        for power in from as i32..=to.floor() as i32 {
            for factor in [1.0, 2.0, 5.0] {
                let at = 10_f64.powi(power) * factor;
                if (dense || factor < 1.5) && at.log10() <= to {
                    ticks.push((at.log10(), round_ms(at)));
                }
            }
        }
        Self { from, to, log: true, ticks }
    }

    /// Time since the start.
    pub(crate) fn time(end_s: f64) -> Self {
        let end = end_s.max(1.0);
        let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];
        let least = end / 8.0;
        let days = (least / 3600.0).ceil() * 3600.0;
        let step = steps.into_iter().find(|step| *step >= least).unwrap_or(days);
        let show = |at: f64| match at as u64 {
            s if s == 0 || step < 60.0 => format!("{s} s"),
            s if step < 3600.0 => format!("{} min", s / 60),
            s => format!("{} h", s / 3600),
        };
        let ticks = multiples(step, end).map(|at| (at, show(at))).collect();
        Self { from: 0.0, to: end, log: false, ticks }
    }

    /// Shares of requests, each further nine the same distance: 0, 90, 99, 99.9 % …
    pub(crate) fn nines(count: u64) -> Self {
        let to = (count.max(10) as f64).log10().clamp(1.0, 6.0);
        let named = [
            (0.0, "0 %"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
        ];
        let more = [(0.999_99, "99.999 %"), (0.999_999, "99.9999 %")];
        let ticks = named.into_iter().chain(more).map(|(q, text)| (Self::nine(q), text.to_owned()));
        Self { from: 0.0, to, log: false, ticks: ticks.filter(|(at, _)| *at <= to + 1e-9).collect() }
    }

    /// Where a share lies on [`Axis::nines`].
    pub(crate) fn nine(share: f64) -> f64 {
        -(1.0 - share).max(1e-9).log10()
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        value.clamp(self.from, self.to)
    }
}

/// 0, `step`, … up to `end`.
fn multiples(step: f64, end: f64) -> impl Iterator<Item = f64> {
    let last = (end / step * 1.0001).min(100.0) as u32;
    (0..=last).map(move |i| f64::from(i) * step)
}

/// The least of `factors` times a power of ten that is at least `least`.
fn step(least: f64, factors: &[f64]) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    factors.iter().map(|factor| factor * power).find(|step| *step >= least * 0.999).unwrap_or(power * 10.0)
}

// === impl Chart ===

impl Chart {
    /// As `<svg>…</svg>`.
    pub(crate) fn svg(&self) -> String {
        let mut drawn = String::new();
        let area =
            self.draw(&mut drawn).expect("writing into a string does not fail, and the axes have a length");
        // Its opening tag has a fixed size; the page's has none, and a name for those who do not see it.
        let inside = drawn.split_once('>').map_or("", |(_, inside)| inside);
        let inside = inside.trim_end().strip_suffix("</svg>").unwrap_or(inside);
        let tips = self.tips(&area);
        let (width, height) = SIZE;
        let name = escape(&self.title);
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\">\n{inside}{tips}</svg>"
        )
    }

    fn draw(&self, out: &mut String) -> Result<Area, Box<dyn std::error::Error>> {
        let broken = |e: DrawingAreaErrorKind<std::io::Error>| e.to_string();
        let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&root);
        builder.margin_left(LEFT).margin_right(14).margin_top(16).margin_bottom(BOTTOM);
        let chart =
            builder.build_cartesian_2d(self.x.from..self.x.to, self.y.from..self.y.to).map_err(broken)?;
        let plot = chart.plotting_area();
        let (left, bottom) = plot.map_coordinate(&(self.x.from, self.y.from));
        let (right, top) = plot.map_coordinate(&(self.x.to, self.y.to));
        let area = Area { left, right, top, bottom };
        for (from, to) in &self.bands {
            let corners = [(self.x.place(*from), self.y.from), (self.x.place(*to), self.y.to)];
            plot.draw(&Rectangle::new(corners, Colour::Band.rgb().filled())).map_err(broken)?;
        }
        let label = |h, v| {
            let font = ("sans-serif", FONT).into_font();
            TextStyle { color: Colour::Label.rgb().to_backend_color(), pos: Pos::new(h, v), ..font.into() }
        };
        for (at, text) in &self.y.ticks {
            let line = vec![(self.x.from, *at), (self.x.to, *at)];
            plot.draw(&PathElement::new(line, Colour::Grid.rgb().stroke_width(2))).map_err(broken)?;
            let (_, y) = plot.map_coordinate(&(self.x.from, *at));
            root.draw(&Text::new(text.clone(), (left - 12, y), label(HPos::Right, VPos::Center)))
                .map_err(broken)?;
        }
        for (at, text) in &self.x.ticks {
            let (x, _) = plot.map_coordinate(&(*at, self.y.from));
            // The outermost would hang over the edge.
            let h = if x > right - 50 {
                HPos::Right
            } else if x < left + 20 {
                HPos::Left
            } else {
                HPos::Center
            };
            root.draw(&Text::new(text.clone(), (x, bottom + 14), label(h, VPos::Top))).map_err(broken)?;
        }
        for layer in &self.layers {
            let place = |(x, y): &(f64, f64)| (self.x.place(*x), self.y.place(*y));
            match layer {
                Layer::Line { colour, points, width } => {
                    let line = PathElement::new(
                        points.iter().map(place).collect::<Vec<_>>(),
                        colour.rgb().stroke_width(*width),
                    );
                    plot.draw(&line)
                }
                Layer::Shape { colour, points } => plot
                    .draw(&Polygon::new(points.iter().map(place).collect::<Vec<_>>(), colour.rgb().filled())),
                Layer::Dots { colour, points } => points
                    .iter()
                    .try_for_each(|point| plot.draw(&Circle::new(place(point), 6, colour.rgb().filled()))),
                Layer::Marks { colour, at } => at.iter().try_for_each(|at| {
                    let (x, y) = plot.map_coordinate(&(self.x.place(*at), self.y.from));
                    let mark = vec![(x, y - 16), (x - 8, y), (x + 8, y)];
                    root.draw(&Polygon::new(mark, colour.rgb().filled()))
                }),
            }
            .map_err(broken)?;
        }
        root.present().map_err(broken)?;
        Ok(area)
    }

    /// Columns that show themselves and say something when the pointer is there. No script: a page that is sent around
    /// should not have one.
    fn tips(&self, area: &Area) -> String {
        use std::fmt::Write as _;
        let mut out = String::from("<g class=\"tips\">");
        let scale = f64::from(area.right - area.left) / (self.x.to - self.x.from);
        for (from, to, text) in &self.tips {
            let x = f64::from(area.left) + (self.x.place(*from) - self.x.from) * scale;
            let width = ((self.x.place(*to) - self.x.place(*from)) * scale).max(2.0);
            let (y, height) = (area.top, area.bottom - area.top);
            let _ = write!(
                out,
                "<rect x=\"{x:.0}\" y=\"{y}\" width=\"{width:.0}\" height=\"{height}\"><title>{}</title></rect>",
                escape(text)
            );
        }
        out + "</g>\n"
    }
}

/// Where the axes are, in pixels.
struct Area {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(&Axis::whole(10)), ["0", "5", "10"]);
        assert_eq!(ticks(&Axis::whole(1)), ["0", "1"]);
        assert_eq!(ticks(&Axis::time(60.0)), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
        assert_eq!(ticks(&Axis::time(7200.0)).last(), Some(&"120 min"));
        assert_eq!(ticks(&Axis::time(864_000.0)).last(), Some(&"240 h"));
        assert_eq!(ticks(&Axis::ms([1.0, 10.0].into_iter())), ["0 ms", "5 ms", "10 ms"]);
        assert_eq!(
            ticks(&Axis::ms([0.9, 2_000.0].into_iter())),
            ["100 µs", "1 ms", "10 ms", "100 ms", "1,000 ms"]
        );
        assert_eq!(ticks(&Axis::nines(1_000)), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn empty_and_strange_values_are_drawn() {
        let lines = |points| Layer::Line { colour: Colour::Blue, points, width: 4 };
        for x in [Axis::time(0.0), Axis::time(1e9), Axis::nines(0), Axis::nines(u64::MAX)] {
            for y in [
                Axis::whole(0),
                Axis::linear(f64::MIN_POSITIVE, |_| String::new()),
                Axis::ms(std::iter::empty()),
            ] {
                let chart = Chart {
                    title: "</svg><script>".into(),
                    x: x.clone(),
                    y,
                    bands: vec![(-5.0, 1e12)],
                    layers: vec![lines(vec![]), lines(vec![(1e12, 1e12), (-1.0, -1.0)])],
                    tips: vec![(0.0, 1.0, "</title><script>".into())],
                    ..Chart::default()
                };
                let svg = chart.svg();
                assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
                assert!(!svg.contains("<script>"));
            }
        }
    }
}
