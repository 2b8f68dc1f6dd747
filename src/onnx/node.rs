//! A node that is being read: its attributes and inputs, checked.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::layout::Activation;
use super::model::{Attribute, Node};
use super::tensor::{self, Budget, Tensor};
use crate::base::{Error, Result};

/// Value of a graph.
#[derive(Clone)]
pub(super) enum Value {
    /// Does not depend on the image.
    Constant(Rc<Tensor>),
    Activation(Activation),
}

/// A node, and what its inputs are.
pub(super) struct NodeReader<'a> {
    pub path: &'a Path,
    pub node: &'a Node<'a>,
    /// None for an input that is left out.
    pub inputs: Vec<Option<Value>>,
    /// Attributes that were asked for: those that the operator may have.
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> NodeReader<'a> {
    pub fn new(path: &'a Path, node: &'a Node<'a>, inputs: Vec<Option<Value>>) -> Self {
        Self { path, node, inputs, asked: RefCell::new(Vec::new()) }
    }

    pub fn wrong(&self, found: impl ToString, expected: impl ToString) -> Error {
        Error::data(self.path.display(), place(self.node), found, expected)
    }

    /// Returns an error unless `holds`.
    pub fn require(
        &self,
        holds: bool,
        found: impl ToString,
        expected: impl ToString,
    ) -> Result<()> {
        holds.then_some(()).ok_or_else(|| self.wrong(found, expected))
    }

    /// Takes memory for values of a shape.
    pub fn take(&self, budget: &mut Budget, shape: &[usize]) -> Result<usize> {
        budget.take(shape).map_err(|(found, expected)| self.wrong(found, expected))
    }

    fn attribute(&self, name: &'static str) -> Option<&'a Attribute<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&name) {
            asked.push(name);
        }
        let found = self.node.attributes.iter().find(|attribute| attribute.0 == name);
        found.map(|attribute| &attribute.1)
    }

    fn of_other_type(&self, name: &str, expected: &str) -> Error {
        self.wrong(format!("attribute `{name}` of another type"), expected)
    }

    pub fn int(&self, name: &'static str, otherwise: i64) -> Result<i64> {
        match self.attribute(name) {
            None => Ok(otherwise),
            Some(Attribute::Int(int)) => Ok(*int),
            Some(_) => Err(self.of_other_type(name, "a whole number")),
        }
    }

    pub fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(ints)) => Ok(Some(ints)),
            Some(_) => Err(self.of_other_type(name, "whole numbers")),
        }
    }

    pub fn float(&self, name: &'static str, otherwise: f32) -> Result<f32> {
        Ok(self.maybe_float(name)?.unwrap_or(otherwise))
    }

    pub fn maybe_float(&self, name: &'static str) -> Result<Option<f32>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(float)) => Ok(Some(*float)),
            Some(_) => Err(self.of_other_type(name, "a number")),
        }
    }

    pub fn floats(&self, name: &'static str) -> Result<Option<&'a [f32]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(floats)) => Ok(Some(floats)),
            Some(_) => Err(self.of_other_type(name, "numbers")),
        }
    }

    pub fn text(&self, name: &'static str, otherwise: &'a str) -> Result<&'a str> {
        match self.attribute(name) {
            None => Ok(otherwise),
            Some(Attribute::Text(text)) => Ok(text),
            Some(_) => Err(self.of_other_type(name, "text")),
        }
    }

    pub fn tensor(&self, name: &'static str, budget: &mut Budget) -> Result<Option<Tensor>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => tensor::read(self.path, tensor, budget).map(Some),
            Some(_) => Err(self.of_other_type(name, "a tensor")),
        }
    }

    /// Returns an error if a flag is not what alone is supported.
    pub fn only(&self, name: &'static str, only: i64) -> Result<()> {
        let value = self.int(name, only)?;
        self.require(value == only, format!("attribute `{name}` {value}"), only)
    }

    /// Returns an error if the node has an attribute that nobody asked for.
    pub fn no_other_attribute(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let unknown = self.node.attributes.iter().find(|(name, _)| !asked.contains(name));
        let Some((name, _)) = unknown else {
            return Ok(());
        };
        let expected = match &asked[..] {
            [] => "none".into(),
            asked => format!("none but {}", quoted(asked)),
        };
        Err(self.wrong(format!("attribute `{name}`"), expected))
    }

    /// Name of an input, for errors.
    pub fn input_name(&self, number: usize) -> String {
        let name = self.node.inputs.get(number).copied().unwrap_or_default();
        format!("input {number} `{name}`")
    }

    pub fn activation(&self, number: usize) -> Result<&Activation> {
        match self.inputs.get(number).and_then(Option::as_ref) {
            Some(Value::Activation(activation)) => Ok(activation),
            Some(Value::Constant(_)) => {
                let found = format!("{}, a constant", self.input_name(number));
                Err(self.wrong(found, "values that depend on the image"))
            }
            None => Err(self.wrong(format!("no {}", self.input_name(number)), "one")),
        }
    }

    /// A constant; none if the input is left out.
    pub fn maybe_constant(&self, number: usize) -> Result<Option<&Rc<Tensor>>> {
        match self.inputs.get(number).and_then(Option::as_ref) {
            None => Ok(None),
            Some(Value::Constant(tensor)) => Ok(Some(tensor)),
            Some(Value::Activation(_)) => {
                let found = format!("{}, which depends on the image", self.input_name(number));
                Err(self.wrong(found, "a constant"))
            }
        }
    }

    pub fn constant(&self, number: usize) -> Result<&Rc<Tensor>> {
        let constant = self.maybe_constant(number)?;
        constant.ok_or_else(|| self.wrong(format!("no {}", self.input_name(number)), "a constant"))
    }

    /// Whole numbers of an attribute or, in newer versions of the operator, of an input; none if
    /// neither is there.
    pub fn ints_or_input(&self, name: &'static str, number: usize) -> Result<Option<Vec<i64>>> {
        if let Some(ints) = self.ints(name)? {
            return Ok(Some(ints.to_vec()));
        }
        let Some(tensor) = self.maybe_constant(number)? else {
            return Ok(None);
        };
        let ints = tensor.integers().ok_or_else(|| {
            self.wrong(
                format!("{} of floating-point numbers", self.input_name(number)),
                "whole ones",
            )
        })?;
        Ok(Some(ints.to_vec()))
    }

    /// A number of an attribute or, in newer versions of the operator, of an input.
    pub fn float_or_input(&self, name: &'static str, number: usize) -> Result<Option<f32>> {
        if let Some(float) = self.maybe_float(name)? {
            return Ok(Some(float));
        }
        let Some(tensor) = self.maybe_constant(number)? else {
            return Ok(None);
        };
        let one = tensor.one();
        let found = || format!("{} of shape {:?}", self.input_name(number), tensor.shape);
        one.map(Some).ok_or_else(|| self.wrong(found(), "one number"))
    }

    /// Axis that may count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        let axis_in = from_start.and_then(|axis| usize::try_from(axis).ok());
        axis_in.filter(|&axis| axis < rank).ok_or_else(|| {
            self.wrong(format!("axis {axis}"), format!("one of the {rank} that its input has"))
        })
    }

    /// Axes, each once, that may count from the end.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let axes_in = axes.iter().map(|&axis| self.axis(axis, rank));
        let axes_in = axes_in.collect::<Result<Vec<_>>>()?;
        let once = axes_in.iter().enumerate().all(|(i, axis)| !axes_in[..i].contains(axis));
        self.require(once, format!("axes {axes:?}"), "each once")?;
        Ok(axes_in)
    }
}

/// Place of a node, for errors: its name, or else that of its output.
pub(super) fn place(node: &Node<'_>) -> String {
    match (node.name, node.outputs.first()) {
        ("", Some(output)) => format!("node of `{output}` ({})", node.operator),
        (name, _) => format!("node `{name}` ({})", node.operator),
    }
}

/// Names in quotes, for errors.
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
