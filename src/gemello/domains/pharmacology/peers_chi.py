"""chi with Myokit (CVODES), the peer of `benchmark` for virtual patients: written as its users would write it.

chi is Augustin D. et al., the package chi-drm; it simulates each virtual patient by a Myokit simulation.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="two_compartments">
<listOfCompartments><compartment id="central" size="1"/><compartment id="peripheral" size="1"/></listOfCompartments>
<listOfSpecies>
<species id="drug" compartment="central" initialAmount="0" hasOnlySubstanceUnits="false"/>
<species id="deep" compartment="peripheral" initialAmount="0" hasOnlySubstanceUnits="false"/>
</listOfSpecies>
<listOfParameters><parameter id="clearance" value="1"/><parameter id="flow" value="1"/></listOfParameters>
<listOfReactions>"""
_TAIL = "</listOfReactions></model></sbml>"


def _reaction(name: str, source: str, sink: str, rate: str) -> str:
    math = f"<apply><times/><ci> {rate} </ci><ci> {source} </ci></apply>"
    product = f'<listOfProducts><speciesReference species="{sink}"/></listOfProducts>' if sink else ""
    return (
        f'<reaction id="{name}" reversible="false"><listOfReactants><speciesReference species="{source}"/></listOfReactants>'
        f'{product}<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{math}</math></kineticLaw></reaction>'
    )


class Patients:
    """Virtual patients of a 2-compartment model: CL by renal function, V1 by weight, both, and V2, log-normal; combined error."""

    def __init__(self, amount: float, duration: float, every: float, doses: int) -> None:
        import chi  # noqa: PLC0415

        text = _HEAD + _reaction("out", "drug", "", "clearance")
        text += _reaction("there", "drug", "deep", "flow") + _reaction("back", "deep", "drug", "flow") + _TAIL
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "model.xml"
            path.write_text(text)
            model = chi.PKPDModel(str(path))
        model.set_administration("central", amount_var="drug_amount")
        model.set_outputs(["central.drug_concentration"])
        model.set_dosing_regimen(dose=amount, duration=duration, period=every, num=doses)
        self.names = model.parameters()
        self.model = model
        self.predictive = chi.PredictiveModel(model, [chi.ConstantAndMultiplicativeGaussianErrorModel()])

    def individual(self, values: dict[str, float], times: Floats) -> Floats:
        """(times,) concentration of one patient; values: CL, V1, Q, V2."""
        return np.asarray(self.model.simulate([self._of(n, values) for n in self.names], times))[0]

    def _of(self, name: str, values: dict[str, float]) -> float:
        table = {"central.size": "V1", "peripheral.size": "V2", "global.clearance": "CL", "global.flow": "Q"}
        return values[table[name]] if name in table else 0.0

    def sampler(
        self,
        typical: dict[str, float],
        sd: dict[str, float],
        exponents: dict[str, float],
        sigma: tuple[float, float],
        times: Floats,
    ) -> Callable[[Floats, int], Floats]:
        """Function (covariates (patients, 2), seed) -> measurements (patients, times). Covariates: logarithms of renal
        function over its reference, and of weight over its own, which act on log CL and log V1 by `exponents`."""
        import chi  # noqa: PLC0415

        models, parameters = [], []
        for n in [self._named(x) for x in self.names]:
            if n in exponents:
                covariate = chi.LinearCovariateModel(n_cov=2)
                one = chi.CovariatePopulationModel(chi.LogNormalModel(), covariate)
                one.set_population_parameters([[0, 0]])
                effect = [exponents[n] if i == list(exponents).index(n) else 0.0 for i in range(2)]
                parameters += [np.log(typical[n]), sd[n], *effect]
            elif sd.get(n):
                one = chi.LogNormalModel()
                parameters += [np.log(typical[n]), sd[n]]
            else:
                one = chi.PooledModel()
                parameters += [typical.get(n, 0.0)]
            models.append(one)
        models += [chi.PooledModel(), chi.PooledModel()]
        parameters += list(sigma)
        population = chi.PopulationPredictiveModel(self.predictive, chi.ComposedPopulationModel(models))

        def sample(covariates: Floats, seed: int) -> Floats:
            both = np.tile(covariates, (1, len(exponents)))  # chi wants each covariate model's own columns
            got = population.sample(parameters, times, n_samples=len(covariates), seed=seed, return_df=False, covariates=both)
            return np.asarray(got)[0].T

        return sample

    def _named(self, name: str) -> str:
        return {"central.size": "V1", "peripheral.size": "V2", "global.clearance": "CL", "global.flow": "Q"}.get(name, name)
