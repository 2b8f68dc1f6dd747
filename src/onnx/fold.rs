//! Nodes that depend on no image, computed while the file is read: shapes, axes, weights.

use super::node::NodeReader;
use super::tensor::{Budget, Tensor, Values, is_float, strides};
use crate::base::Result;

/// Operators that [`fold`] knows, beside those of layers.
pub(super) const OPERATORS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// The constant that a node of constants gives; none for an operator that is not known here.
///
/// # Errors
/// Inputs or attributes that do not fit, or a result larger than the file justifies.
pub(super) fn fold(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Option<Tensor>> {
    let operator = node.node.operator;
    if let Some(of) = unary(operator) {
        let input = node.constant(0)?;
        node.take(budget, &input.shape)?;
        return Ok(Some(map(input, of.0, of.1)));
    }
    if binary(operator, 0.0, 0.0).is_some() {
        let mut all = node.constant(0)?.as_ref().clone();
        node.take(budget, &all.shape)?;
        let several = matches!(operator, "Max" | "Min");
        let count = if several { node.inputs.len() } else { 2 };
        if operator == "Mod" {
            node.int("fmod", 0)?; // floating-point numbers have no other remainder here
        }
        for number in 1..count {
            all = combine(node, &all, node.constant(number)?, budget)?;
        }
        return Ok(Some(all));
    }
    Ok(Some(match operator {
        "Constant" => constant(node, budget)?,
        "Identity" => {
            let input = node.constant(0)?;
            node.take(budget, &input.shape)?;
            input.as_ref().clone()
        }
        "Cast" => cast(node, budget)?,
        "ConstantOfShape" => {
            let value = node.tensor("value", budget)?;
            let value =
                value.unwrap_or(Tensor { shape: vec![1], values: Values::Floats(vec![0.0]) });
            let good = value.values.len() == 1;
            node.require(good, "attribute `value` of several values", "one")?;
            let shape = sizes(node, 0)?;
            node.take(budget, &shape)?;
            value.picked(shape, |_| 0)
        }
        "Range" => range(node, budget)?,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let input = node.constant(0)?;
            let shape = match operator {
                "Reshape" => reshaped(node, &input.shape)?,
                "Flatten" => {
                    let axis = node.int("axis", 1)?;
                    let rank = input.shape.len();
                    let axis = node.axis(axis, rank + 1)?;
                    let (before, after) = input.shape.split_at(axis);
                    vec![before.iter().product(), after.iter().product()]
                }
                "Squeeze" => squeezed(node, &input.shape)?.1,
                _ => unsqueezed(node, input.shape.len())?.iter().fold(
                    input.shape.clone(),
                    |mut shape, &axis| {
                        shape.insert(axis, 1);
                        shape
                    },
                ),
            };
            node.take(budget, &shape)?;
            Tensor { shape, values: input.values.clone() }
        }
        "Transpose" => {
            let input = node.constant(0)?;
            let order = order(node, input.shape.len())?;
            node.take(budget, &input.shape)?;
            input.transposed(&order)
        }
        "Concat" => concat(node, budget)?,
        "Gather" => gather(node, budget)?,
        "Slice" => {
            let input = node.constant(0)?;
            let slices = slices(node, &input.shape)?;
            let shape: Vec<usize> = slices.iter().map(|slice| slice.count).collect();
            node.take(budget, &shape)?;
            let steps = strides(&input.shape);
            input.picked(shape, |index| {
                let places = index.iter().zip(&slices).map(|(&i, slice)| slice.place(i));
                places.zip(&steps).map(|(place, step)| place * step).sum()
            })
        }
        "Expand" => {
            let input = node.constant(0)?;
            let shape = broadcast(node, &input.shape, &sizes(node, 1)?)?;
            node.take(budget, &shape)?;
            spread(input, shape)
        }
        "Tile" => {
            let input = node.constant(0)?;
            let repeats = sizes(node, 1)?;
            let good = repeats.len() == input.shape.len();
            node.require(good, format!("{} repeats", repeats.len()), input.shape.len())?;
            let shape = input.shape.iter().zip(&repeats).map(|(&a, &b)| a.saturating_mul(b));
            let shape: Vec<usize> = shape.collect();
            node.take(budget, &shape)?;
            let steps = strides(&input.shape);
            input.picked(shape, |index| {
                let places = index.iter().zip(&input.shape).map(|(&i, &size)| i % size);
                places.zip(&steps).map(|(place, step)| place * step).sum()
            })
        }
        "Where" => {
            let [test, yes, no] = [node.constant(0)?, node.constant(1)?, node.constant(2)?];
            let shape = broadcast(node, &test.shape, &yes.shape)?;
            let shape = broadcast(node, &shape, &no.shape)?;
            (0..3).try_for_each(|_| node.take(budget, &shape).map(drop))?;
            let test = spread(test, shape.clone()).floats();
            let pick = |yes: &Tensor, no: &Tensor| match (&yes.values, &no.values) {
                (Values::Ints(yes), Values::Ints(no)) => {
                    let each = test.iter().zip(yes.iter().zip(no));
                    Values::Ints(each.map(|(&t, (&y, &n))| if t != 0.0 { y } else { n }).collect())
                }
                _ => {
                    let (yes, no) = (yes.floats(), no.floats());
                    let each = test.iter().zip(yes.into_iter().zip(no));
                    Values::Floats(each.map(|(&t, (y, n))| if t != 0.0 { y } else { n }).collect())
                }
            };
            let values = pick(&spread(yes, shape.clone()), &spread(no, shape.clone()));
            Tensor { shape, values }
        }
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduce(node, budget)?,
        _ => return Ok(None),
    }))
}

type Unary = (fn(f32) -> f32, Option<fn(i64) -> i64>);

/// What an operator does with floating-point numbers, and with whole ones if these stay whole.
fn unary(operator: &str) -> Option<Unary> {
    Some(match operator {
        "Abs" => (f32::abs, Some(i64::wrapping_abs)),
        "Ceil" => (f32::ceil, Some(|x| x)),
        "Floor" => (f32::floor, Some(|x| x)),
        "Neg" => (|x| -x, Some(i64::wrapping_neg)),
        "Not" => (|x| f32::from(x == 0.0), Some(|x| (x == 0).into())),
        "Reciprocal" => (f32::recip, None),
        "Sqrt" => (f32::sqrt, None),
        _ => return None,
    })
}

fn map(input: &Tensor, floats: fn(f32) -> f32, ints: Option<fn(i64) -> i64>) -> Tensor {
    let values = match (&input.values, ints) {
        (Values::Ints(values), Some(of)) => Values::Ints(values.iter().map(|&x| of(x)).collect()),
        _ => Values::Floats(input.floats().into_iter().map(floats).collect()),
    };
    Tensor { shape: input.shape.clone(), values }
}

/// What an operator makes of two numbers: a number, or a truth value.
fn binary(operator: &str, a: f32, b: f32) -> Option<f32> {
    let truth = |x: bool| f32::from(x);
    Some(match operator {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Mod" => a % b,
        "Pow" => a.powf(b),
        "Max" => a.max(b),
        "Min" => a.min(b),
        "Equal" => truth(a == b),
        "Less" => truth(a < b),
        "LessOrEqual" => truth(a <= b),
        "Greater" => truth(a > b),
        "GreaterOrEqual" => truth(a >= b),
        "And" => truth(a != 0.0 && b != 0.0),
        "Or" => truth(a != 0.0 || b != 0.0),
        _ => return None,
    })
}

/// The same of whole numbers; none for a division by 0.
fn binary_int(operator: &str, a: i64, b: i64) -> Option<i64> {
    Some(match operator {
        "Add" => a.wrapping_add(b),
        "Sub" => a.wrapping_sub(b),
        "Mul" => a.wrapping_mul(b),
        "Div" => a.checked_div(b)?,
        "Mod" => a.checked_rem_euclid(b)?,
        "Pow" => a.wrapping_pow(u32::try_from(b).ok()?),
        "Max" => a.max(b),
        "Min" => a.min(b),
        "Equal" => (a == b).into(),
        "Less" => (a < b).into(),
        "LessOrEqual" => (a <= b).into(),
        "Greater" => (a > b).into(),
        "GreaterOrEqual" => (a >= b).into(),
        "And" => (a != 0 && b != 0).into(),
        _ => (a != 0 || b != 0).into(),
    })
}

fn combine(node: &NodeReader<'_>, a: &Tensor, b: &Tensor, budget: &mut Budget) -> Result<Tensor> {
    let operator = node.node.operator;
    let shape = broadcast(node, &a.shape, &b.shape)?;
    (0..3).try_for_each(|_| node.take(budget, &shape).map(drop))?;
    let (a, b) = (spread(a, shape.clone()), spread(b, shape.clone()));
    let values = match (&a.values, &b.values) {
        (Values::Ints(a), Values::Ints(b)) => {
            let each = a.iter().zip(b).map(|(&a, &b)| binary_int(operator, a, b));
            let each = each.collect::<Option<_>>();
            Values::Ints(each.ok_or_else(|| node.wrong("a division by 0", "another number"))?)
        }
        _ => {
            let (a, b) = (a.floats(), b.floats());
            let each = a.into_iter().zip(b).filter_map(|(a, b)| binary(operator, a, b));
            let truth = matches!(operator, "And" | "Or" | "Equal") || operator.starts_with("Less");
            match truth || operator.starts_with("Greater") {
                true => Values::Ints(each.map(|x| x as i64).collect()),
                false => Values::Floats(each.collect()),
            }
        }
    };
    Ok(Tensor { shape, values })
}

/// Shape of two that stretch to each other.
fn broadcast(node: &NodeReader<'_>, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(own) => shape[own],
        None => 1,
    };
    let sizes = (0..rank).map(|axis| match (size(a, axis), size(b, axis)) {
        (1, size) | (size, 1) => Some(size),
        (one, other) => (one == other).then_some(one),
    });
    let found = || format!("shapes {a:?} and {b:?}");
    sizes.collect::<Option<_>>().ok_or_else(|| node.wrong(found(), "shapes that fit each other"))
}

/// A tensor stretched to a shape that [`broadcast`] gave.
fn spread(input: &Tensor, shape: Vec<usize>) -> Tensor {
    let before = shape.len() - input.shape.len();
    let steps = strides(&input.shape);
    input.picked(shape, |index| {
        let own = index[before..].iter().zip(&input.shape);
        let own = own.map(|(&i, &size)| if size == 1 { 0 } else { i });
        own.zip(&steps).map(|(i, step)| i * step).sum()
    })
}

fn constant(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let scalar = |values| Tensor { shape: Vec::new(), values };
    if let Some(tensor) = node.tensor("value", budget)? {
        return Ok(tensor);
    }
    if let Some(ints) = node.ints("value_ints")? {
        return Ok(Tensor::ints(ints.to_vec()));
    }
    if let Some(floats) = node.floats("value_floats")? {
        let values = Values::Floats(floats.to_vec());
        return Ok(Tensor { shape: vec![floats.len()], values });
    }
    if let Some(float) = node.maybe_float("value_float")? {
        return Ok(scalar(Values::Floats(vec![float])));
    }
    match node.node.attributes.iter().any(|(name, _)| *name == "value_int") {
        true => Ok(scalar(Values::Ints(vec![node.int("value_int", 0)?]))),
        false => Err(node.wrong("no value", "attribute `value` or `value_ints`")),
    }
}

fn cast(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let input = node.constant(0)?;
    let (to, _) = (node.int("to", 1)?, node.int("saturate", 1)?);
    node.text("round_mode", "up")?; // of types smaller than those here
    node.take(budget, &input.shape)?;
    let values = match &input.values {
        _ if is_float(to) => Values::Floats(input.floats()),
        Values::Floats(values) if to == 9 => {
            Values::Ints(values.iter().map(|&x| (x != 0.0).into()).collect())
        }
        Values::Ints(values) if to == 9 => {
            Values::Ints(values.iter().map(|&x| (x != 0).into()).collect())
        }
        Values::Floats(values) => Values::Ints(values.iter().map(|&x| x as i64).collect()),
        Values::Ints(values) => Values::Ints(values.clone()),
    };
    Ok(Tensor { shape: input.shape.clone(), values })
}

fn range(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let ints = (0..3).map(|number| {
        Ok(node.constant(number)?.integers().and_then(|x| match x {
            [one] => Some(*one),
            _ => None,
        }))
    });
    let ints = ints.collect::<Result<Option<Vec<i64>>>>()?;
    let Some([start, end, step]) = ints.as_deref() else {
        return Err(node.wrong("inputs that are not three whole numbers", "those"));
    };
    node.require(*step != 0, "a step of 0", "another")?;
    let (start, end, step) = (i128::from(*start), i128::from(*end), i128::from(*step));
    let count = ((end - start + step - step.signum()) / step).max(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    node.take(budget, &[count])?;
    Ok(Tensor::ints((0..count).map(|i| (start + i as i128 * step) as i64).collect()))
}

fn concat(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let inputs = (0..node.inputs.len()).map(|number| node.constant(number));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let Some(first) = inputs.first() else {
        return Err(node.wrong("no input", "one or more"));
    };
    let axis = node.axis(node.int("axis", 0)?, first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for input in &inputs {
        let mut other = input.shape.clone();
        let size = other.get_mut(axis).map_or(0, std::mem::take);
        let mut rest = shape.clone();
        rest[axis] = 0;
        let found = format!("shapes {:?} and {:?}", first.shape, input.shape);
        node.require(other == rest, found, format!("shapes that differ in axis {axis} alone"))?;
        shape[axis] = shape[axis].saturating_add(size);
    }
    node.take(budget, &shape)?;
    let ints = inputs.iter().all(|input| input.integers().is_some());
    // Rows of each input that lie together.
    let rows: usize = shape[..axis].iter().product();
    let row = |input: &Tensor| input.values.len().checked_div(rows).unwrap_or(0);
    let values = match ints {
        true => {
            let parts = inputs.iter().map(|input| (row(input), input.integers().unwrap_or(&[])));
            let parts: Vec<_> = parts.collect();
            let each =
                (0..rows).flat_map(|r| parts.iter().flat_map(move |&(n, x)| &x[r * n..][..n]));
            Values::Ints(each.copied().collect())
        }
        false => {
            let parts: Vec<_> = inputs.iter().map(|input| (row(input), input.floats())).collect();
            let each =
                (0..rows).flat_map(|r| parts.iter().flat_map(move |(n, x)| &x[r * n..][..*n]));
            Values::Floats(each.copied().collect())
        }
    };
    Ok(Tensor { shape, values })
}

fn gather(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let (input, indices) = (node.constant(0)?, node.constant(1)?);
    let axis = node.axis(node.int("axis", 0)?, input.shape.len())?;
    let size = input.shape[axis];
    let Some(chosen) = indices.integers() else {
        return Err(node.wrong("indices that are not whole", "whole numbers"));
    };
    let places = chosen.iter().map(|&index| {
        let place = if index < 0 { index.checked_add(size as i64)? } else { index };
        usize::try_from(place).ok().filter(|&place| place < size)
    });
    let Some(places) = places.collect::<Option<Vec<usize>>>() else {
        return Err(node.wrong(format!("indices {chosen:?}"), format!("those of {size} values")));
    };
    let shape = [&input.shape[..axis], &indices.shape, &input.shape[axis + 1..]].concat();
    node.take(budget, &shape)?;
    let (rank, steps, own) = (indices.shape.len(), strides(&input.shape), strides(&indices.shape));
    Ok(input.picked(shape, |index| {
        let (before, rest) = index.split_at(axis);
        let (middle, after) = rest.split_at(rank);
        let chosen: usize = middle.iter().zip(&own).map(|(i, step)| i * step).sum();
        let outer = before.iter().chain([&places[chosen]]).chain(after);
        outer.zip(&steps).map(|(i, step)| i * step).sum()
    }))
}

fn reduce(node: &NodeReader<'_>, budget: &mut Budget) -> Result<Tensor> {
    let input = node.constant(0)?;
    let rank = input.shape.len();
    let Some(axes) = reduced(node, rank)? else {
        node.take(budget, &input.shape)?;
        return Ok(input.as_ref().clone());
    };
    let keep = node.int("keepdims", 1)? != 0;
    let inside: Vec<usize> =
        (0..rank).map(|a| if axes.contains(&a) { 1 } else { input.shape[a] }).collect();
    let size = node.take(budget, &inside)?;
    let steps = strides(&inside);
    let own = strides(&input.shape);
    let operator = match node.node.operator {
        "ReduceProd" => "Mul",
        "ReduceSum" => "Add",
        "ReduceMax" => "Max",
        _ => "Min",
    };
    let mut ints: Vec<Option<i64>> = vec![None; size];
    let mut floats: Vec<Option<f32>> = vec![None; size];
    let all = input.floats();
    for (number, &float) in all.iter().enumerate() {
        let index = (0..rank).filter(|axis| !axes.contains(axis));
        let place: usize = index.map(|a| number / own[a] % input.shape[a] * steps[a]).sum();
        if let Values::Ints(values) = &input.values {
            let value = values[number];
            ints[place] = Some(
                ints[place]
                    .map_or(value, |old| binary_int(operator, old, value).unwrap_or_default()),
            );
        }
        floats[place] = Some(
            floats[place].map_or(float, |old| binary(operator, old, float).unwrap_or_default()),
        );
    }
    let empty = if operator == "Mul" { 1 } else { 0 };
    let shape = match keep {
        true => inside,
        false => (0..rank).filter(|a| !axes.contains(a)).map(|a| input.shape[a]).collect(),
    };
    let values = match input.values {
        Values::Ints(_) => Values::Ints(ints.into_iter().map(|x| x.unwrap_or(empty)).collect()),
        Values::Floats(_) => {
            Values::Floats(floats.into_iter().map(|x| x.unwrap_or(empty as f32)).collect())
        }
    };
    Ok(Tensor { shape, values })
}

/// Axes that a reduction runs over: all if the node names none; none if it then reduces nothing.
pub(super) fn reduced(node: &NodeReader<'_>, rank: usize) -> Result<Option<Vec<usize>>> {
    let axes = node.ints_or_input("axes", 1)?.unwrap_or_default();
    let nothing = node.int("noop_with_empty_axes", 0)? != 0;
    if !axes.is_empty() {
        return node.axes(&axes, rank).map(Some);
    }
    Ok((!nothing).then(|| (0..rank).collect()))
}

/// Sizes that an input holds.
fn sizes(node: &NodeReader<'_>, number: usize) -> Result<Vec<usize>> {
    let tensor = node.constant(number)?;
    let sizes = tensor.integers().map(|all| all.iter().map(|&size| usize::try_from(size).ok()));
    let sizes = sizes.and_then(|sizes| sizes.collect::<Option<Vec<_>>>());
    sizes.ok_or_else(|| {
        let found = format!("{} of {:?}", node.input_name(number), tensor.values);
        node.wrong(found, "sizes of 0 or more")
    })
}

/// Shape that `Reshape` gives to a value of shape `from`.
pub(super) fn reshaped(node: &NodeReader<'_>, from: &[usize]) -> Result<Vec<usize>> {
    let allow_zero = node.int("allowzero", 0)? != 0;
    let Some(said) = node.ints_or_input("shape", 1)? else {
        return Err(node.wrong("no shape", "one as input 1"));
    };
    let expected = || format!("sizes, at most one of them -1, for {from:?}");
    let fail = || node.wrong(format!("shape {said:?}"), expected());
    let mut open = None;
    let mut shape = Vec::with_capacity(said.len());
    for (axis, &size) in said.iter().enumerate() {
        shape.push(match size {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !allow_zero => *from.get(axis).ok_or_else(fail)?,
            size => usize::try_from(size).map_err(|_| fail())?,
        });
    }
    let size = |shape: &[usize]| {
        let mut sizes = shape.iter();
        sizes.try_fold(1usize, |all, &size| all.checked_mul(size))
    };
    let (all, known) = (size(from).ok_or_else(fail)?, size(&shape).ok_or_else(fail)?);
    if let Some(axis) = open {
        shape[axis] = all.checked_div(known).ok_or_else(fail)?;
    }
    if size(&shape) != Some(all) {
        return Err(fail());
    }
    Ok(shape)
}

/// Axes that `Squeeze` leaves of a value of shape `from`, and their sizes.
pub(super) fn squeezed(node: &NodeReader<'_>, from: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
    let axes = match node.ints_or_input("axes", 1)? {
        Some(axes) => node.axes(&axes, from.len())?,
        None => (0..from.len()).filter(|&axis| from[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| from[axis] != 1) {
        let found = format!("axis {axis} of {from:?}");
        return Err(node.wrong(found, "axes of size 1"));
    }
    let left: Vec<usize> = (0..from.len()).filter(|axis| !axes.contains(axis)).collect();
    let sizes = left.iter().map(|&axis| from[axis]).collect();
    Ok((left, sizes))
}

/// Axes, in ascending order, that `Unsqueeze` adds to a value of so many.
pub(super) fn unsqueezed(node: &NodeReader<'_>, rank: usize) -> Result<Vec<usize>> {
    let Some(axes) = node.ints_or_input("axes", 1)? else {
        return Err(node.wrong("no axes", "those that it adds"));
    };
    let mut axes = node.axes(&axes, rank.saturating_add(axes.len()))?;
    axes.sort_unstable();
    Ok(axes)
}

/// Order of axes of `Transpose`.
pub(super) fn order(node: &NodeReader<'_>, rank: usize) -> Result<Vec<usize>> {
    let Some(order) = node.ints("perm")? else {
        return Ok((0..rank).rev().collect());
    };
    let axes = node.axes(order, rank)?;
    node.require(
        axes.len() == rank,
        format!("attribute `perm` {order:?}"),
        format!("{rank} axes"),
    )?;
    Ok(axes)
}

/// Part of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AxisSlice {
    pub start: usize,
    pub step: i64,
    pub count: usize,
}

impl AxisSlice {
    /// The whole axis.
    pub fn all(size: usize) -> Self {
        Self { start: 0, step: 1, count: size }
    }

    pub fn place(&self, i: usize) -> usize {
        (self.start as i64 + i as i64 * self.step) as usize
    }
}

/// What `Slice` takes of each axis of a value of shape `from`.
pub(super) fn slices(node: &NodeReader<'_>, from: &[usize]) -> Result<Vec<AxisSlice>> {
    let (starts, ends) = (node.ints_or_input("starts", 1)?, node.ints_or_input("ends", 2)?);
    let (Some(starts), Some(ends)) = (starts, ends) else {
        return Err(node.wrong("no starts or no ends", "both"));
    };
    let axes = node.ints_or_input("axes", 3)?;
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = node.maybe_constant(4)?.map(|steps| steps.integers().unwrap_or_default().to_vec());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let lengths = [starts.len(), ends.len(), axes.len(), steps.len()];
    let found = format!("{lengths:?} starts, ends, axes and steps");
    node.require(lengths.iter().all(|&length| length == starts.len()), found, "as many of each")?;
    let mut slices: Vec<AxisSlice> = from.iter().map(|&size| AxisSlice::all(size)).collect();
    for (number, axis) in node.axes(&axes, from.len())?.into_iter().enumerate() {
        let (size, step) = (from[axis] as i64, steps[number]);
        let good = step != 0 && step != i64::MIN;
        node.require(good, format!("a step of {step}"), "a step other than 0")?;
        let from_start = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_start(starts[number]).clamp(low.max(0), high.max(0));
        let end = from_start(ends[number]).clamp(low, high.max(low));
        let room = if step > 0 { end - start } else { start - end };
        let count = if size == 0 { 0 } else { room.max(0).div_euclid(step.abs()) };
        let rest = room.max(0).rem_euclid(step.abs()) != 0;
        let count = count as usize + usize::from(rest && size > 0);
        slices[axis] = AxisSlice { start: start as usize, step, count };
    }
    Ok(slices)
}
